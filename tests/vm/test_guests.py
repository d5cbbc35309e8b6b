"""Virtual machines of the tests: disks are hot-plugged and volplug detects it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.requirements import VM
from tests.lab.waiting import wait_until
from tests.vm.guest import GUESTS, Guest
from tests.vm.guest_volplug import spawn_python
from tests.vm.image import guest_image

pytestmark = [*VM, GUESTS, pytest.mark.prepare(by=guest_image)]

_SERIAL = "vol0123456789abcdef0"
_SIZE_BYTES = 64 << 20
_TIMEOUT_S = 240.0
_MODEL = "QEMU NVMe Ctrl"
_WAITING_SCRIPT = Path(__file__).with_name("await_disk.py")


def _disk(directory: Path, name: str) -> Path:
    disk = directory / name
    with disk.open("wb") as file:
        file.truncate(_SIZE_BYTES)
    return disk


def _output(guest: Guest, log: str, wanted: str) -> list[str]:
    """The output of a program up to the expected line."""
    wait_until(lambda: wanted in guest.read(log), _TIMEOUT_S, f"{log} has {wanted!r}")
    return guest.read(log).splitlines()


def test_the_kernels_add_event_of_a_plugged_disk_wakes_the_waiting_process(
    guests: tuple[Guest, Guest], lab: Path
) -> None:
    guest, _ = guests
    spawn_python(guest, _WAITING_SCRIPT, _SERIAL, log="/run/waiting")
    _output(guest, "/run/waiting", "waiting")
    guest.plug(_SERIAL, _disk(lab, "waited-for"))
    output = _output(guest, "/run/waiting", "found")
    name = output[-1].removeprefix("found ")
    assert f"add {name}" in output
    shown = f"/sys/block/{name}"
    assert guest.read(f"{shown}/device/serial").strip() == _SERIAL
    assert guest.read(f"{shown}/device/model").strip() == _MODEL
    assert int(guest.read(f"{shown}/size")) * 512 == _SIZE_BYTES
    guest.run(["udevadm", "settle"])
    by_id = f"/dev/disk/by-id/nvme-{_MODEL.replace(' ', '_')}_{_SERIAL}"
    assert guest.run(["readlink", "--canonicalize", by_id]).strip() == f"/dev/{name}"
    guest.unplug(_SERIAL)
    assert name not in guest.run(["ls", "/sys/block"]).split()


_STARTING_SCRIPT = """
import pathlib, sys
from tests.vm.guest import GUESTS, Guest
from tests.vm.image import guest_image
guest = Guest(guest_image(), pathlib.Path(sys.argv[1]), "i-killed")
guest.start()
print(guest.pid, flush=True)
sys.stdin.read()
"""


def test_nothing_is_left_of_a_guest_whose_test_run_is_killed(lab: Path) -> None:
    command = [sys.executable, "-c", _STARTING_SCRIPT, str(lab)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        guest = Path(f"/proc/{int(run.stdout.readline())}")
        assert guest.exists()
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: not guest.exists(), _TIMEOUT_S, "the guest has ended")
