"""AttachVolume and DetachVolume.

States: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_VolumeAttachment.html. A volume that the
guest still uses turns busy when it is detached, and is detached when the guest no longer uses it:
https://github.com/kubernetes-sigs/aws-ebs-csi-driver/issues/1032
"""

import re
from dataclasses import replace
from typing import Final

from tests.ec2sim import answers, refusals
from tests.ec2sim.facts import Attachment, Instance, VolumeFact, now
from tests.ec2sim.hypervisor import Hypervisor
from tests.ec2sim.instances import Instances
from tests.ec2sim.plan import FaultPlan, Slow
from tests.ec2sim.scheduler import Scheduler
from tests.ec2sim.service import Request
from tests.ec2sim.table import VolumeTable

# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
_NAME: Final = re.compile(r"(?:/dev/)?(?:sd[a-z]\d{0,2}|xvd[a-z]{1,2})")
_ROOT_NAMES: Final = frozenset({"xvda", "xvda1"})
_BUSY_RETRY: Final = Slow(0.1)


class Attachments:
    """Attaches and detaches volumes."""

    def __init__(
        self,
        plan: FaultPlan,
        table: VolumeTable,
        scheduler: Scheduler,
        hypervisor: Hypervisor,
        instances: Instances,
    ) -> None:
        self._plan = plan
        self._table = table
        self._scheduler = scheduler
        self._hypervisor = hypervisor
        self._instances = instances

    def attach(self, request: Request) -> bytes:
        """Begin to attach a volume."""
        volume_id, device = request.required("VolumeId"), request.required("Device")
        with self._table.lock:
            fact = self._table.get(volume_id)
            instance = self._instances.get(request.required("InstanceId"))
            self._check(fact, instance, device)
            place = Attachment(instance.instance_id, device, "attaching", now())
            self._table.put(replace(fact, status="in-use", attachment=place), request.action)
            self._schedule_attach(volume_id, place)
        self._scheduler.run_due(_plug_of(volume_id))
        self._scheduler.run_due(volume_id)
        return answers.answer(request.action, answers.attachment(volume_id, place))

    def detach(self, request: Request) -> bytes:
        """Begin to detach a volume; one that is detaching already is answered with its state."""
        volume_id, instance_id = request.required("VolumeId"), request.get("InstanceId")
        is_forced = request.is_set("Force")
        with self._table.lock:
            fact = self._table.get(volume_id)
            if instance_id:
                self._instances.get(instance_id)
            place = fact.attachment
            if place is None:
                raise refusals.IN_STATE(volume_id, fact.status)
            if instance_id and instance_id != place.instance_id:
                raise refusals.NOT_ATTACHED(volume_id, instance_id)
            is_new = place.status in ("attaching", "attached")
            if is_new:
                place = replace(place, status="detaching")
                self._table.put(replace(fact, attachment=place), request.action)
            if is_new or is_forced:
                self._schedule_detach(volume_id, is_forced)
        self._scheduler.run_due(volume_id)
        return answers.answer(request.action, answers.attachment(volume_id, place))

    def release(self, instance_id: str) -> None:
        """Detach all volumes from an instance that has been terminated."""
        with self._table.lock:
            attached = self._table.attached_to(instance_id)
            for fact in attached:
                self._table.put(fact.with_attachment(status="detaching"))
                self._schedule_detach(fact.volume_id, is_forced=True)
        for fact in attached:
            self._scheduler.run_due(fact.volume_id)

    def _check(self, fact: VolumeFact, instance: Instance, device: str) -> None:
        if fact.attachment is not None:
            raise refusals.ATTACHED_ALREADY(fact.volume_id)
        if fact.status != "available":
            raise refusals.NOT_AVAILABLE(fact.volume_id)
        if instance.state not in ("running", "stopped"):
            raise refusals.NOT_RUNNING(instance.instance_id)
        if fact.zone != instance.zone:
            raise refusals.ZONE_MISMATCH(fact.volume_id, instance.instance_id)
        if not _NAME.fullmatch(device):
            raise refusals.BAD_NAME(device)
        held = self._table.attached_to(instance.instance_id)
        taken = {_plain(each.attachment.device) for each in held if each.attachment}
        if _plain(device) in _ROOT_NAMES | taken:
            raise refusals.NAME_IN_USE(device)
        if len(held) >= instance.attachment_limit:
            raise refusals.TOO_MANY_ATTACHED(instance.attachment_limit)

    def _schedule_attach(self, volume_id: str, place: Attachment) -> None:
        if volume_id in self._plan.stuck_volumes or place.device in self._plan.stuck_devices:
            return
        if self._plan.device == "before":
            self._scheduler.schedule(_plug_of(volume_id), Slow(), lambda: self._plug(volume_id, place))
        self._scheduler.schedule(volume_id, self._plan.attaching, lambda: self._end_attach(volume_id, place))

    def _end_attach(self, volume_id: str, place: Attachment) -> None:
        if self._plan.device == "with":
            self._plug(volume_id, place)
        with self._table.lock:
            fact = self._table.find(volume_id)
            if fact is None or not _is_same(fact, place) or fact.status != "in-use":
                return
            if fact.attachment is not None and fact.attachment.status == "attaching":
                self._table.put(fact.with_attachment(status="attached"))
        if self._plan.device == "after":
            lag = Slow(self._plan.device_lag_s)
            self._scheduler.begin(_plug_of(volume_id), lag, lambda: self._plug(volume_id, place))

    def _plug(self, volume_id: str, place: Attachment) -> None:
        """Make the device appear, unless the volume is being detached by now."""
        with self._table.device_lock(volume_id):
            fact = self._table.find(volume_id)
            if fact is None or fact.attachment is None or not _is_same(fact, place):
                return
            if fact.attachment.is_plugged or fact.attachment.status not in ("attaching", "attached"):
                return
            self._hypervisor.plug(place.instance_id, volume_id, place.device)
            with self._table.lock:
                self._table.put(self._table.get(volume_id).with_attachment(is_plugged=True))

    def _schedule_detach(self, volume_id: str, is_forced: bool) -> None:
        self._scheduler.cancel(_plug_of(volume_id))
        self._scheduler.schedule(
            volume_id, self._plan.detaching, lambda: self._end_detach(volume_id, is_forced)
        )

    def _end_detach(self, volume_id: str, is_forced: bool) -> None:
        with self._table.device_lock(volume_id):
            fact = self._table.find(volume_id)
            if fact is None or fact.attachment is None:
                return
            if fact.attachment.is_plugged and not self._unplug(fact, fact.attachment, is_forced):
                with self._table.lock:
                    self._table.put(self._table.get(volume_id).with_attachment(status="busy"))
                self._scheduler.begin(
                    volume_id, _BUSY_RETRY, lambda: self._end_detach(volume_id, is_forced), is_awaited=False
                )
                return
            with self._table.lock:
                current = self._table.get(volume_id)
                self._table.put(replace(current, status="available", attachment=None))

    def _unplug(self, fact: VolumeFact, place: Attachment, is_forced: bool) -> bool:
        if fact.volume_id in self._plan.busy_volumes and not is_forced:
            return False
        return self._hypervisor.unplug(place.instance_id, fact.volume_id)


def _is_same(fact: VolumeFact, place: Attachment) -> bool:
    held = fact.attachment
    return held is not None and replace(held, status="", is_plugged=False) == replace(place, status="")


def _plug_of(volume_id: str) -> str:
    return f"{volume_id}/device"


def _plain(device: str) -> str:
    """Return the canonical form of a device name: /dev/sdf and xvdf are the same."""
    return re.sub("^(?:/dev/)?(?:sd|xvd)", "xvd", device)
