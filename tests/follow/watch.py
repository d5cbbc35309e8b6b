"""The promises that hold at every moment: a volume is mounted on one host at most, which the cloud knows."""

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.follow.backend import FollowBackend
from tests.lab import loops, power
from tests.lab.host import Host, Hosts

_EVERY_S = 0.01


class Watch:
    """Checks the mounts of the hosts continuously, and everything on request.

    Attributes:
        broken: The broken promises.
    """

    def __init__(self, hosts: Hosts, cloud: FollowBackend) -> None:
        """Describe the watch; it runs as long as it is entered."""
        self._hosts = hosts
        self._cloud = cloud
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._check_repeatedly)
        self.broken: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def check(self, *volumes: str) -> None:
        """Check that no promise was broken so far, and that exactly these volumes exist, each once.

        A host that has one mounted has it attached; mounts of containers count as well.
        """
        assert self._cloud.volumes() == sorted(volumes), "volumes are lost or doubled"
        for host in self._hosts:
            for volume in mounted(host):
                holders = self._cloud.holders(volume)
                if volume in mounted(host):
                    assert holders == {host.name}, f"{volume} is mounted on {host.name}"
        shared = [name for name, count in Counter(self._disks_in_use()).items() if count > 1]
        assert not shared, f"mounted on several hosts: {shared}"
        assert not self.broken, self.broken

    def _disks_in_use(self) -> Iterable[str]:
        """The images that are mounted, once for each host that has them, by any device."""
        images = {device.name: device.image for device in loops.attached_below(self._cloud.images)}
        for host in self._hosts:
            yield from {images[device] for device in _devices(host) if device in images}

    def _check_repeatedly(self) -> None:
        while not self._ended.wait(_EVERY_S):
            seen = [(host, mounted(host)) for host in self._hosts]
            for volume, count in Counter(name for _, names in seen for name in names).items():
                # The hosts are read one after the other: it may have moved in between.
                still = [
                    host.name for host, names in seen if names.get(volume, "") == mounted(host).get(volume)
                ]
                if count > 1 and len(still) > 1:
                    self.broken.append(f"{volume} was mounted on {still} at once")


def mounted(host: Host) -> dict[str, str]:
    """The volumes that a host's volplug has mounted, with an id that differs for each mount."""
    if not host.is_on:
        return {}
    root = f"{host.volplug.mount_root}/"
    found = {}
    with contextlib.suppress(OSError, AssertionError):  # it is just losing its power
        for line in Path(f"/proc/{host.engine.first_pid}/mountinfo").read_text().splitlines():
            number, _, device, _, place = line.split()[:5]
            if place.startswith(root):
                found[Path(place).relative_to(root).parts[0]] = f"{number} {device}"
    return found


def _devices(host: Host) -> set[str]:
    """The loop devices that are mounted anywhere on a host, in its containers as well."""
    if not host.is_on:
        return set()
    namespaces: dict[str, int] = {}
    for pid in [host.engine.first_pid, *power.processes(host.engine.first_pid)]:
        with contextlib.suppress(OSError):
            namespaces.setdefault(os.readlink(f"/proc/{pid}/ns/mnt"), pid)
    found: set[str] = set()
    for pid in namespaces.values():
        with contextlib.suppress(OSError):
            found |= {f"/dev/loop{device.partition(':')[2]}" for device, _ in power.loop_mounts(pid)}
    return found
