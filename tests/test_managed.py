from pathlib import Path

import pytest

from volplug.managed import event_paths, host_paths

# What dockerd binds to /mnt/volplug; the id is shortened.
ROOT = "/var/lib/docker/plugins/5aa1/propagated-mount"


def mounts(*places: tuple[str, str]) -> str:
    return "".join(
        f"{number} 20 8:1 {root} {at} rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        for number, (root, at) in enumerate(places, 30)
    )


@pytest.mark.parametrize(
    ("state_root", "propagated_root", "text", "shown"),
    [
        ("/var/lib", ROOT, "/var/lib/volplug/a.img is missing", "/var/lib/volplug/a.img is missing"),
        ("/srv/disk", ROOT, "/var/lib/volplug/a.img is missing", "state.source/volplug/a.img is missing"),
        ("/", ROOT, "see '/var/lib'.", "see 'state.source'."),
        ("/var/lib", ROOT, "/mnt/volplug/state-id says 1", f"{ROOT}/state-id says 1"),
        (
            "/var/lib",
            "/engine/plugins/5aa1/propagated-mount",
            "/mnt/volplug/volumes/db",
            "DOCKER_ROOT/plugins/5aa1/propagated-mount/volumes/db",
        ),
        ("/srv", ROOT, "/x/var/lib and /var/library", "/x/var/lib and /var/library"),
        ("/srv", "/somewhere", "/mnt/volplug/a", "/mnt/volplug/a"),
    ],
)
def test_paths_of_the_plugin_are_shown_as_on_the_host(
    state_root: str, propagated_root: str, text: str, shown: str
) -> None:
    as_on_host = host_paths(mounts((state_root, "/var/lib"), (propagated_root, "/mnt/volplug")))
    assert as_on_host(text) == shown


def test_the_log_shows_them_as_well_and_leaves_other_values_alone() -> None:
    process = event_paths(host_paths(mounts(("/srv", "/var/lib"))))
    event = process(None, "info", {"path": "/var/lib/volplug", "count": 3})
    assert event == {"path": "state.source/volplug", "count": 3}


def test_on_the_host_nothing_is_replaced() -> None:
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    assert host_paths(text)("/mnt/volplug/state-id") == "/mnt/volplug/state-id"
