"""An EC2 that answers by a script, and the parts of the driver in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.drivers.ebs.clouds import spec_of
from tests.host.sysfs_tree import MODEL
from volplug.drivers.ebs.attachments import InstanceAttachments
from volplug.drivers.ebs.creation import VolumeCreator
from volplug.drivers.ebs.deletion import VolumeDeleter
from volplug.drivers.ebs.disks import Disks
from volplug.drivers.ebs.settings import EbsSettings
from volplug.drivers.ebs.tags import tags_of
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.drivers.ebs.volumes import ClusterVolumes
from volplug.host.sysfs import Sysfs

Answer = Mapping[str, Any] | Exception

DONE: Mapping[str, Any] = {}


class Script:
    """Answers calls one after the other; the last answer of an action for ever."""

    def __init__(self, **answers: list[Answer]) -> None:
        self._answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        self.calls.append((action, dict(parameters)))
        answers = self._answers[action]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def made(self, action: str) -> list[dict[str, Any]]:
        return [parameters for name, parameters in self.calls if name == action]


class Held(Script):
    """Answers when the test lets it."""

    def __init__(self, **answers: list[Answer]) -> None:
        super().__init__(**answers)
        self.released = asyncio.Event()

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        answer = await super().call(action, **parameters)
        await self.released.wait()
        return answer


def described(name: str, volume_id: str = "vol-1", cluster: str = "c", **more: object) -> dict[str, Any]:
    tags = tags_of(spec_of(name), cluster, {})
    return {"VolumeId": volume_id, "State": "available", "Size": 4, "Tags": tags, **more}


def shown(*descriptions: Mapping[str, Any]) -> dict[str, Any]:
    """What DescribeVolumes answers."""
    return {"Volumes": list(descriptions)}


@dataclass
class Parts:
    """The driver's parts on one host, whose EC2 answers by a script.

    Attributes:
        script: EC2.
        slept: The pauses so far; they take no time.
    """

    script: Script
    volumes: ClusterVolumes
    creation: VolumeCreator
    deletion: VolumeDeleter
    attachments: InstanceAttachments
    slept: list[float]


_NOWHERE = Path("/nowhere")
_PATIENT = Ec2Timeouts()


def parts_of(script: Script, place: Path = _NOWHERE, limits: Ec2Timeouts = _PATIENT) -> Parts:
    """Put the parts together.

    Args:
        script: EC2.
        place: Has the host's sys and dev.
        limits: How long is waited for what.
    """
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    def clock() -> float:
        return 0.0

    volumes = ClusterVolumes(script, "c", "ebs", limits, clock)
    creation = VolumeCreator(script, volumes, EbsSettings(), limits, clock, sleep)
    disks = Disks(Sysfs(place / "sys", place / "dev"), MODEL, place / "notes.json", "ebs")
    attachments = InstanceAttachments(script, volumes, disks, limits)
    return Parts(script, volumes, creation, VolumeDeleter(script, volumes, limits), attachments, slept)
