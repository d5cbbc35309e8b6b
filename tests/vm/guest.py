"""A virtual machine that disks can be plugged into while it runs.

    with Guest(image, directory, instance_id="i-0123456789abcdef0") as guest:
        guest.plug("vol0123456789abcdef0", directory / "disk")
        guest.run(["mkfs.ext4", "/dev/nvme1n1"])

The processor is emulated, so nothing but QEMU is needed, but everything is slow. A guest reaches only
this machine's loopback, as HOST.
"""

import base64
import json
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.lab.programs import checked, find_program, settled, tail
from tests.lab.waiting import wait_until
from tests.vm import agent
from tests.vm.image import GuestImage
from tests.vm.qmp import Qmp

# For tests with the guests of conftest.py, which are booted once in each lane that needs them.
GUESTS = pytest.mark.lane("vm")
HOST = "10.0.2.2"
BOOT_TIMEOUT_S = 240.0
_SLOTS = 4
_ANSWER_TIMEOUT_S = 240.0
_END_TIMEOUT_S = 30.0
# no_timer_check: on a busy machine the emulated timer is late, which the kernel takes for a broken one.
_KERNEL_COMMAND_LINE = (
    "root=/dev/nvme0n1 rootwait rw init=/opt/init console=ttyS0 net.ifnames=0 panic=-1 quiet no_timer_check"
)


class Guest:
    """One virtual machine.

    Attributes:
        instance_id: its id, at the same place as on an instance of EC2.
        console: the file with the output of its console.
    """

    def __init__(self, image: GuestImage, directory: Path, instance_id: str, memory_mib: int = 512) -> None:
        self.instance_id = instance_id
        self.console = directory / f"{instance_id}.console"
        self._image = image
        self._memory_mib = memory_mib
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._port = 0
        self._plugged: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Switch it on. Not from a thread that ends: the guest ends with it."""
        ours, theirs = socket.socketpair()
        output = self.console.with_suffix(".qemu").open("wb")
        with theirs, output:
            self._process = subprocess.Popen(
                # Not even a killed test run leaves a guest behind.
                [find_program("setpriv"), "--pdeathsig=KILL", *self._command(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._qmp = Qmp(ours)
        shown = self._qmp.execute("human-monitor-command", **{"command-line": "info usernet"})
        forwarded = re.search(r"HOST_FORWARD\S*\s+\d+\s+\S+\s+(\d+)", shown)
        assert forwarded is not None, shown
        self._port = int(forwarded[1])

    def await_boot(self) -> None:
        """Wait until its agent answers."""
        wait_until(self._is_ready, BOOT_TIMEOUT_S, f"the guest {self.instance_id} has booted")

    def close(self) -> None:
        """Switch it off: the disk is never written to, so nothing is lost. May be called twice."""
        if self._process is not None:
            self._process.kill()
            settled(self._process, _END_TIMEOUT_S)
            self._process = None
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None

    def plug(self, serial: str, disk: Path) -> None:
        """Plug in an NVMe disk; the guest notices a little later."""
        slot = min(set(range(_SLOTS)) - set(self._plugged.values()))
        node = {"driver": "file", "filename": str(disk), "discard": "unmap"}
        self.qmp.execute("blockdev-add", driver="raw", file=node, **{"node-name": serial})
        disk_of = {"serial": serial, "drive": serial, "bus": f"slot{slot}"}
        self.qmp.execute("device_add", driver="nvme", id=f"d{serial}", **disk_of)
        self._plugged[serial] = slot

    def unplug(self, serial: str) -> None:
        """Unplug it and wait until the guest has released it."""
        self.qmp.execute("device_del", id=f"d{serial}")
        self.qmp.await_deleted(f"d{serial}")
        self.qmp.execute("blockdev-del", **{"node-name": serial})
        del self._plugged[serial]

    def take_all(self) -> list[str]:
        """Unplug all plugged disks and return their serials."""
        found = self.plugged
        for serial in found:
            self.unplug(serial)
        return found

    def is_held(self, serial: str) -> bool:
        """Whether a mount or a program in the guest uses the disk."""
        return bool(self._ask("is_held", serial=serial)["held"])

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        input_bytes: bytes = b"",
        timeout_s: float = 120.0,
    ) -> str:
        """Run a program in the guest and return its output; CommandError if it failed."""
        sent = base64.b64encode(input_bytes).decode()
        done = self._ask("run", argv=argv, env=dict(env or {}), input_base64=sent, timeout_s=timeout_s)
        checked(subprocess.CompletedProcess(list(argv), done["code"], done["out"], done["err"]))
        return str(done["out"])

    def spawn(self, argv: Sequence[str], *, log: str, env: Mapping[str, str] | None = None) -> int:
        """Start a program in the guest and return its process id there."""
        return int(self._ask("spawn", argv=argv, env=dict(env or {}), log=log)["pid"])

    def is_running(self, pid: int) -> bool:
        """Whether a program that was spawned in the guest runs."""
        return bool(self._ask("is_running", pid=pid)["running"])

    def read(self, path: str) -> str:
        """Read a file in the guest."""
        return str(self._ask("read", path=path)["text"])

    def connect(self, path: str) -> socket.socket:
        """Connect to a Unix socket in the guest."""
        connection, _ = self._open("connect", socket=path)
        return connection

    @property
    def plugged(self) -> list[str]:
        """The serials of the disks that are plugged in."""
        return list(self._plugged)

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        assert self._process is not None, f"{self.instance_id} is off"
        return self._process.pid

    @property
    def qmp(self) -> Qmp:
        """QEMU's control socket."""
        assert self._qmp is not None, f"{self.instance_id} is off"
        return self._qmp

    def _command(self, control: int) -> list[str]:
        command = [find_program("qemu-system-x86_64"), "-nodefaults", "-no-reboot", "-display", "none"]
        command += [
            "-machine",
            "q35",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-m",
            str(self._memory_mib),
        ]
        command += ["-kernel", str(self._image.kernel), "-append", _KERNEL_COMMAND_LINE]
        # What it writes goes to a nameless temporary file.
        command += ["-drive", f"if=none,id=root,file={self._image.disk},format=raw,snapshot=on"]
        command += ["-device", "nvme,serial=root,drive=root"]
        for slot in range(_SLOTS):
            command += ["-device", f"pcie-root-port,id=slot{slot},chassis={slot + 1}"]
        command += ["-netdev", f"user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:0-:{agent.PORT}"]
        command += ["-device", "virtio-net-pci,netdev=net", "-device", "virtio-rng-pci"]
        # As on instances of EC2's Nitro.
        command += ["-smbios", "type=1,manufacturer=Amazon EC2,product=m5.large"]
        command += ["-smbios", f"type=2,manufacturer=Amazon EC2,asset={self.instance_id}"]
        command += ["-serial", f"file:{self.console}"]
        command += ["-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control"]
        return command

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"QEMU ended: {tail(self.console.with_suffix('.qemu'))}\n{tail(self.console)}")
        return self.console.exists() and agent.READY in self.console.read_text(errors="replace")

    def _ask(self, kind: str, **question: object) -> dict[str, Any]:
        connection, answer = self._open(kind, **question)
        connection.close()
        return answer

    def _open(self, kind: str, **question: object) -> tuple[socket.socket, dict[str, Any]]:
        connection = socket.create_connection(("127.0.0.1", self._port), _ANSWER_TIMEOUT_S)
        try:
            connection.sendall(json.dumps({"do": kind, **question}).encode() + b"\n")
            answer = json.loads(_line(connection))
        except BaseException:
            connection.close()
            raise
        if "error" in answer:
            connection.close()
            raise RuntimeError(f"{kind} in {self.instance_id}: {answer['error']}")
        return connection, answer


def _line(connection: socket.socket) -> bytes:
    """Read a line and nothing after it, because another reader follows."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            raise RuntimeError("the guest's agent has gone")
        line += byte
    return bytes(line)
