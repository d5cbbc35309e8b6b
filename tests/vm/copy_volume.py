"""Runs in a guest: copies a volume as between two hosts, and prints how each stream ended.

Arguments: the parents of the volumes of both hosts.
"""

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from volplug.drivers.base import BackendConfig
from volplug.drivers.zfs import build
from volplug.drivers.zfs.driver import ZfsDriver
from volplug.errors import VolplugError
from volplug.models import Volume, VolumeSpec

_MIB = 1 << 20
_PLACE = Path("/mnt")
_STREAM = Path("/run/stream")


def _content(dataset: str, new: str = "") -> str:
    """Mount a dataset for a moment, perhaps write a new file, and return a digest of all files."""
    subprocess.run(["mount", "-t", "zfs", dataset, _PLACE], check=True)
    if new:
        (_PLACE / new).write_bytes(os.urandom(8 * _MIB))
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in sorted(_PLACE.iterdir())))
    subprocess.run(["umount", _PLACE], check=True)
    return digest.hexdigest()


def _send(sender: str, received: str, volume: Volume) -> int:
    with _STREAM.open("wb") as file:
        asyncio.run(_driver(sender).send_to(file.fileno(), volume, received))
    return _STREAM.stat().st_size


def _receive(receiver: str, part: float = 1.0) -> str:
    """Receive the first part of the stream; return how it ended, and what is there then."""
    os.truncate(_STREAM, int(_STREAM.stat().st_size * part))
    ended = "whole"
    with _STREAM.open("rb") as file:
        try:
            asyncio.run(_driver(receiver).receive(file.fileno(), "db"))
        except VolplugError as error:
            ended = error.code
    return f"{ended}, {_received(receiver).partition(' ')[0] or 'nothing'}"


def _received(receiver: str) -> str:
    return asyncio.run(_driver(receiver).received("db"))


def _adopt(receiver: str) -> str:
    try:
        return asyncio.run(_driver(receiver).adopt("db")).state
    except VolplugError as error:
        return error.code


def _driver(pool: str) -> ZfsDriver:
    return build(BackendConfig("tank", pool, "", Path("/run/copies") / pool, {"pool": pool}))


here, there = sys.argv[1:]
volume = asyncio.run(_driver(here).create(VolumeSpec("db", 64 * _MIB, "zfs")))
_content(f"{here}/db", "a")
whole = _send(here, _received(there), volume)
print("cut:", _receive(there, 0.7), _adopt(there))  # noqa: T201  # as all below: that is its answer
rest = _send(here, _received(there), volume)
print("rest:", _receive(there), rest < whole / 2)  # noqa: T201
before = _content(f"{here}/db", "b")
_send(here, _received(there), volume)
print("cut increment:", _receive(there, 0.5))  # noqa: T201
subprocess.run(["zfs", "receive", "-A", f"{there}/db"], check=True)
increment = _send(here, _received(there), volume)
print("again:", _receive(there), increment < whole * 1.5)  # noqa: T201
print("adopted:", _adopt(there), _adopt(there), _content(f"{there}/db") == before)  # noqa: T201
_send(here, "", volume)
print("into a volume:", _receive(there))  # noqa: T201
