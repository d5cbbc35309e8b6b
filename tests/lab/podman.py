"""podman on a machine of its own, with volplug as its volume plugin.

podman has no daemon: each command is a program that ends, and its state is on the machine's disk.
"""

import subprocess
from pathlib import Path

from tests.lab import images
from tests.lab.engine import Engine
from tests.lab.programs import checked, find_program

IMAGE = "busybox:local"
_PLUGIN = "/run/docker/plugins/volplug.sock"


class Podman:
    """The podman command; it needs a machine with power, and no dockerd."""

    def __init__(self, machine: Engine) -> None:
        self._machine = machine
        self._directory = machine.directory / "podman"
        self._directory.mkdir(exist_ok=True)
        (self._directory / "containers.conf").write_text(
            f'[engine.volume_plugins]\nvolplug = "{_PLUGIN}"\n[engine]\nevents_logger = "none"\n'
        )

    def __call__(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman; CommandError if it fails and ``check`` is true."""
        command = ["env", f"CONTAINERS_CONF={self._directory / 'containers.conf'}", find_program("podman")]
        command += [
            f"--root={self._directory / 'root'}",
            "--runroot=/run/podman",
            "--cgroup-manager=cgroupfs",
        ]
        result = self._machine.run([*command, *args], timeout_s=120)
        return checked(result) if check else result

    def import_busybox(self) -> None:
        """Make the image of busybox."""
        archive = self._directory / "busybox.tar"
        archive.write_bytes(images.busybox_archive())
        self("import", str(archive), IMAGE)

    def start(self, name: str, volume: str) -> None:
        """Start a container that writes numbered records into a volume until it is stopped."""
        write = "n=$((n+1)); echo $n >>/data/records; sync /data/records; usleep 10000"
        script = f"n=0; while :; do {write}; done"
        self("run", "--detach", "--stop-timeout=0", f"--name={name}", *_on(volume), IMAGE, "sh", "-c", script)

    def run(self, volume: str, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a script in a container with a volume and wait for its end."""
        return self("run", "--rm", *_on(volume), IMAGE, "sh", "-c", script, check=check)

    def mounted_at(self, volume: str) -> Path:
        """The mountpoint of a volume as podman reports it, as seen from here."""
        shown = self("volume", "inspect", "--format={{.Mountpoint}}", volume).stdout.strip()
        return self._machine.path(shown)


def _on(volume: str) -> tuple[str, ...]:
    return ("--network=none", f"--volume={volume}:/data")
