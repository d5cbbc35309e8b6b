"""Diagnosis of an EBS backend: what its credentials permit is asked by dry runs.

"If you have the required permissions, the error response is DryRunOperation. Otherwise, it is
UnauthorizedOperation": https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html
A policy may ask for tags, so dry runs name volumes of the cluster. An endpoint that is not AWS's may carry
them out (https://github.com/floci-io/floci/pull/3599): so reads go first, and of the changes those that
could lose data or a mount name a volume for which EC2 refuses them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from volplug.drivers.base import failed_check
from volplug.drivers.cloud.diagnosis import CloudDiagnosis, was_formatted
from volplug.drivers.cloud.service_clock import ServiceClock
from volplug.drivers.cloud.tags import FS_UUID, NAME
from volplug.drivers.ebs import options
from volplug.drivers.ebs.errors import Ec2Refused, translated
from volplug.drivers.ebs.instance import HostIdentity, Identity
from volplug.drivers.ebs.settings import EbsSettings
from volplug.drivers.ebs.tags import as_list, tags_of
from volplug.drivers.ebs.timeouts import CLOCK_REFUSED_S, Ec2Timeouts
from volplug.drivers.ebs.volumes import Caller, ClusterVolumes, Ec2Volume
from volplug.errors import BackendDenied, ConfigurationError, VolplugError
from volplug.findings import Finding, Level
from volplug.models import VolumeSpec, VolumeState

_WOULD_SUCCEED: Final = "DryRunOperation"
_READS: Final = ("DescribeInstances", "DescribeInstanceStatus", "DescribeVolumes")
_ON_VOLUMES: Final = '"Action": ["ec2:AttachVolume", "ec2:DeleteVolume", "ec2:DetachVolume"]'
_ON_INSTANCES: Final = (
    f'{_ON_VOLUMES}, and "Action": ["ec2:AttachVolume", "ec2:DetachVolume"], for which this instance'
    " needs the tag volplug:cluster"
)
# Where each action is in the policy of docs/drivers/ebs.md.
STATEMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(_READS, f'"Action": ["ec2:{_READS[0]}", "ec2:{_READS[1]}", "ec2:{_READS[2]}"]'),
        "CreateVolume": '"Action": "ec2:CreateVolume", and "ec2:CreateAction": "CreateVolume"',
        "CreateTags": '"aws:TagKeys": ["volplug:fs", "volplug:fs-uuid"]',
        "AttachVolume": _ON_INSTANCES,
        "DetachVolume": _ON_INSTANCES,
        "DeleteVolume": _ON_VOLUMES,
    }
)


class Ec2Account(Protocol):
    """Whose calls EC2 gets; see `volplug.drivers.ebs.ec2.Ec2`."""

    clock: ServiceClock

    async def credentials(self) -> str:
        """Return which key signs the calls, and where it was found."""
        ...


@dataclass(frozen=True, slots=True)
class _DryRun:
    """The answer to a dry run: permitted, or else a finding."""

    action: str
    finding: Finding | None = None


class EbsDiagnosis(CloudDiagnosis[Ec2Volume, Identity]):
    """Diagnoses a backend."""

    _CLOUD = "EC2"
    _CLOCK_REFUSED_S = CLOCK_REFUSED_S
    _SHOW_NODE = "aws ec2 describe-instance-status --include-all-instances --instance-ids {}"

    def __init__(  # the driver's parts
        self,
        caller: Caller,
        account: Ec2Account,
        host: HostIdentity,
        volumes: ClusterVolumes,
        settings: EbsSettings,
        limits: Ec2Timeouts,
    ) -> None:
        longest_s = {
            VolumeState.CREATING: limits.create_s,
            VolumeState.ATTACHING: limits.attaching_s,
            VolumeState.DETACHING: limits.detach_s,
        }
        super().__init__(volumes, account.clock, longest_s)
        self._caller = caller
        self._credentials = account
        self._host = host
        self._settings = settings

    async def _of_metadata(self, backend: str) -> Sequence[Finding]:
        try:
            await self._host.check_metadata()
        except ConfigurationError as error:
            node = self._host.known.node_id if self._host.known else "INSTANCE"
            command = f"aws ec2 modify-instance-metadata-options --instance-id {node} --http-endpoint enabled"
            remedy = f"{error.remedy}: {command} --http-put-response-hop-limit 2"
            # Whether anything is missing without it, the other checks tell.
            return [Finding("metadata-service", Level.YELLOW, backend, error.cause, remedy)]
        answers = "the instance metadata service answers, with a token (IMDSv2)"
        return [Finding("metadata-service", Level.GREEN, backend, answers)]

    async def _account(self) -> str:
        return await self._credentials.credentials()

    # Permissions

    async def _permissions(
        self, backend: str, node: Identity, seen: Sequence[Ec2Volume]
    ) -> Sequence[Finding]:
        named = {"InstanceIds": [node.node_id]}
        reads = dict(zip(_READS, (named, named, {}), strict=True))
        changes = self._changes(node, seen)
        tried = await self._dry_runs(backend, reads)
        if any(each.finding is None for each in tried):
            tried += await self._dry_runs(backend, changes)
        wrong = [each.finding for each in tried if each.finding is not None]
        permitted = [f"ec2:{each.action}" for each in tried if each.finding is None]
        unknown = [f"ec2:{each}" for each in STATEMENTS if each not in {each.action for each in tried}]
        found = f"EC2 permits {', '.join(permitted) or 'nothing that was tried'}"
        if unknown:
            found += f"; not checked, as no volume is in a state that suits: {', '.join(unknown)}"
        found += "; ec2:StopInstances, for takeover = fence, is not checked"
        return wrong or [Finding("permissions", Level.GREEN, backend, found)]

    def _changes(self, node: Identity, seen: Sequence[Ec2Volume]) -> dict[str, dict[str, Any]]:
        """Return the dry runs of changes by action; one that no volume suits is missing. Pure."""
        spec = VolumeSpec("volplug-doctor", options.INFO.default_size_bytes)
        tags = tags_of(spec, self._volumes.cluster, self._settings.tags)
        parameters = options.create_parameters(spec, self._settings, node.zone)
        parameters["TagSpecifications"] = [{"ResourceType": "volume", "Tags": tags}]
        changes = {"CreateVolume": parameters}
        in_use = next((each for each in seen if each.holder), None)
        others = next((each for each in seen if each.holder != node.node_id), None)
        formatted = next(
            (each for each in seen if was_formatted(each) and each.state is not VolumeState.ERROR), None
        )
        if in_use is not None:
            changes["DeleteVolume"] = {"VolumeId": in_use.volume_id}
        if to_attach := in_use or others:
            changes["AttachVolume"] = {
                "VolumeId": to_attach.volume_id,
                "InstanceId": node.node_id,
                "Device": "/dev/sdf",
            }
        if others is not None:
            changes["DetachVolume"] = {"VolumeId": others.volume_id, "InstanceId": node.node_id}
        if formatted is not None:  # what its tag says already, and never changes again
            tag = as_list({FS_UUID: formatted.volume.filesystem.uuid})
            changes["CreateTags"] = {"Resources": [formatted.volume_id], "Tags": tag}
        return changes

    async def _dry_runs(self, backend: str, actions: Mapping[str, Mapping[str, Any]]) -> list[_DryRun]:
        tries = (self._dry_run(backend, action, parameters) for action, parameters in actions.items())
        return list(await asyncio.gather(*tries))

    async def _dry_run(self, backend: str, action: str, parameters: Mapping[str, Any]) -> _DryRun:
        try:
            await self._caller.call(action, DryRun=True, **parameters)
        except Ec2Refused as refused:
            if refused.code == _WOULD_SUCCEED:
                return _DryRun(action)
            error = translated(refused)
            remedy = f"Check by hand that the role may do it: {STATEMENTS[action]} of docs/drivers/ebs.md"
            cause = f"whether ec2:{action} is permitted is unknown: {error.cause}"
            return _DryRun(action, Finding("permissions", Level.YELLOW, backend, cause, remedy))
        except BackendDenied as error:
            remedy = f"{error.remedy}; docs/drivers/ebs.md has it in {STATEMENTS[action]}"
            return _DryRun(action, Finding("permissions", Level.RED, backend, error.cause, remedy))
        except VolplugError as error:
            return _DryRun(action, failed_check("permissions", backend, error, Level.YELLOW))
        cause = f"whether ec2:{action} is permitted is unknown: this endpoint does not know dry runs"
        remedy = f"Check by hand: {STATEMENTS[action]} of docs/drivers/ebs.md"
        return _DryRun(action, Finding("permissions", Level.YELLOW, backend, cause, remedy))

    # Volumes

    def _repair(self, seen: Ec2Volume) -> str:
        volume_id, node_id = seen.volume_id, seen.holder
        if seen.state is VolumeState.CREATING:
            return f"Nothing is on it yet, delete it: aws ec2 delete-volume --volume-id {volume_id}"
        detach = f"aws ec2 detach-volume --volume-id {volume_id} --instance-id {node_id}"
        if seen.state is VolumeState.ATTACHING:
            return f"{detach}, then start the container again"
        if not node_id:
            return f"See what EC2 says: aws ec2 describe-volumes --volume-ids {volume_id}"
        stop = f"aws ec2 stop-instances --instance-ids {node_id}"
        return f"Stop what uses it on {node_id}; else {stop}, and once it has stopped {detach} --force"

    def _duplicates(self, found: Sequence[Ec2Volume]) -> tuple[Level, str]:
        blank = [each for each in found if not was_formatted(each) and not each.holder]
        spare = blank[0].volume_id if len(blank) == 1 else "ID"
        delete = f"aws ec2 delete-volume --volume-id {spare}"
        rename = f"aws ec2 create-tags --resources ID --tags Key={NAME},Value=OTHER-NAME"
        return Level.RED, f"Delete the one without your data: {delete}; or rename one: {rename}"

    def _of_error(self, seen: Ec2Volume) -> tuple[Level, str, str]:
        if seen.status == "error" and was_formatted(seen):
            # https://docs.aws.amazon.com/ebs/latest/userguide/ebs-describing-volumes.html#volume-state
            cause = "EC2 reports that its hardware has failed, and its data is lost"
            return Level.RED, cause, "Restore it from a snapshot: docs/operations.md, Restore an EBS volume"
        if seen.status == "error":
            delete = f"aws ec2 delete-volume --volume-id {seen.volume_id}"
            remedy = f"Nothing is on it yet: {delete}, then create it again"
            return Level.RED, seen.volume.detail, remedy
        tags = f"aws ec2 describe-tags --filters Name=resource-id,Values={seen.volume_id}"
        return Level.RED, seen.volume.detail, f"Correct its tags, {tags} shows them; see docs/drivers/ebs.md"
