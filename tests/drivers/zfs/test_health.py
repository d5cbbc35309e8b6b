"""The health of pools: verbatim captures, and real ones that are damaged."""

from __future__ import annotations

import pytest

from volplug.drivers.zfs.health import PoolHealth, check_usable, findings, read_health
from volplug.errors import BackendUnavailable, UnexpectedState
from volplug.findings import Level

# Of zfs-fuse 0.7.0: after an import with half of a mirror overwritten. `zpool list` says ONLINE.
_MISSING = """\
  pool: mir
 state: ONLINE
status: One or more devices could not be used because the label is missing or
\tinvalid.  Sufficient replicas exist for the pool to continue
\tfunctioning in a degraded state.
action: Replace the device using 'zpool replace'.
   see: http://www.sun.com/msg/ZFS-8000-4J
 scrub: none requested
config:

\tNAME                      STATE     READ WRITE CKSUM
\tmir                       ONLINE       0     0     0
\t  mirror-0                ONLINE       0     0     0
\t    /srv/mA.img        ONLINE       0     0     0
\t    15215868552944965376  UNAVAIL      0     0     0  was /srv/mB.img

errors: No known data errors
"""
# Of OpenZFS 2.1.11.
_OFFLINE = """\
  pool: mir
 state: DEGRADED
status: One or more devices has been taken offline by the administrator.
\tSufficient replicas exist for the pool to continue functioning in a
\tdegraded state.
action: Online the device using 'zpool online' or replace the device with
\t'zpool replace'.
config:

\tNAME                           STATE     READ WRITE CKSUM
\tmir                            DEGRADED     0     0     0
\t  mirror-0                     DEGRADED     0     0     0
\t    nvme-QEMU_NVMe_Ctrl_disk2  ONLINE       0     0     0
\t    nvme-QEMU_NVMe_Ctrl_disk3  OFFLINE      0     0     0

errors: No known data errors
"""
# Likewise, after one side of a mirror was overwritten and scrubbed.
_REPAIRED = """\
  pool: bad
 state: ONLINE
status: One or more devices has experienced an unrecoverable error.  An
\tattempt was made to correct the error.  Applications are unaffected.
action: Determine if the device needs to be replaced, and clear the errors
\tusing 'zpool clear' or replace the device with 'zpool replace'.
   see: https://openzfs.github.io/openzfs-docs/msg/ZFS-8000-9P
  scan: scrub repaired 20.1M in 00:00:01 with 0 errors on Mon Nov 30 01:07:46 2026
config:

\tNAME         STATE     READ WRITE CKSUM
\tbad          ONLINE       0     0     0
\t  mirror-0   ONLINE       0     0     0
\t    /srv/v1  ONLINE       0     0     0
\t    /srv/v2  ONLINE       0     0   264

errors: No known data errors
"""
_WELL = PoolHealth("tank", "ONLINE", 40, is_readonly=False, broken_devices=(), has_data_errors=False)


@pytest.mark.parametrize(
    ("listed", "status", "state", "broken"),
    [
        ("ONLINE\t1%\n", _MISSING, "ONLINE", ("15215868552944965376 UNAVAIL",)),
        (
            "DEGRADED\t1%\toff\n",
            _OFFLINE,
            "DEGRADED",
            ("mirror-0 DEGRADED", "nvme-QEMU_NVMe_Ctrl_disk3 OFFLINE"),
        ),
        ("ONLINE\t1%\toff\n", _REPAIRED, "ONLINE", ("/srv/v2 has errors",)),
    ],
    ids=["missing", "offline", "repaired"],
)
def test_a_disk_that_is_missing_is_named(
    listed: str, status: str, state: str, broken: tuple[str, ...]
) -> None:
    health = read_health("mir", listed, status)
    assert (health.state, health.broken_devices, health.used_percent) == (state, broken, 1)
    assert not health.has_data_errors
    check_usable(health)  # as long as there are enough others
    (finding,) = findings(health, "mir")
    assert finding.level is Level.YELLOW
    assert broken[-1] in finding.message
    assert finding.remedy


_STATES: list[tuple[dict[str, object], Level, str]] = [
    ({}, Level.GREEN, "online, 40% full"),
    ({"used_percent": 95}, Level.YELLOW, "95% full"),
    ({"has_data_errors": True}, Level.RED, "damaged"),
    ({"state": "FAULTED"}, Level.RED, "faulted"),
    ({"state": "UNAVAIL"}, Level.RED, "missing"),
    ({"state": "SUSPENDED"}, Level.RED, "suspended"),
    ({"is_readonly": True}, Level.RED, "read-only"),
]


@pytest.mark.parametrize(("change", "level", "words"), _STATES, ids=[words for _, _, words in _STATES])
def test_each_state_in_plain_words(change: dict[str, object], level: Level, words: str) -> None:
    values = {name: getattr(_WELL, name) for name in PoolHealth.__slots__} | change
    (finding,) = findings(PoolHealth(**values), "tank")
    assert (finding.level, finding.subject) == (level, "tank")
    assert words in finding.message
    assert bool(finding.remedy) is (level is not Level.GREEN)


def test_a_suspended_pool_is_not_what_the_list_says() -> None:
    status = _OFFLINE.replace("DEGRADED", "SUSPENDED", 1)
    health = read_health("mir", "ONLINE\t1%\toff\n", status)
    with pytest.raises(BackendUnavailable, match="suspended"):
        check_usable(health)


def test_of_a_faulted_pool_zpool_knows_the_state_alone() -> None:
    health = read_health("mir", "FAULTED\t-\n", _OFFLINE.replace("DEGRADED", "UNAVAIL", 1))
    with pytest.raises(BackendUnavailable, match="faulted"):
        check_usable(health)


@pytest.mark.parametrize(
    ("used", "available", "percent"), [(1, 9, 40), (95, 5, 95), (5, 0, 100), (0, 0, 100)]
)
def test_space_that_is_reserved_for_others_is_not_there(used: int, available: int, percent: int) -> None:
    assert _WELL.with_space(used, available).used_percent == percent


def test_what_cannot_be_read_is_an_error() -> None:
    with pytest.raises(UnexpectedState):
        read_health("mir", "noise", _OFFLINE)
