"""CreateVolume and DeleteVolume."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable
from dataclasses import replace

from tests.ec2sim import answers, refusals
from tests.ec2sim.clockwork import Clockwork
from tests.ec2sim.facts import NewVolume, VolumeFact
from tests.ec2sim.hypervisor import Hypervisor
from tests.ec2sim.limits import asked_volume, new_volume
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.requests import Request
from tests.ec2sim.table import VolumeTable
from tests.ec2sim.tagging import check_tags
from tests.ec2sim.tokens import Tokens


class Creation:
    """Makes and deletes volumes."""

    def __init__(
        self,
        plan: FaultPlan,
        table: VolumeTable,
        clockwork: Clockwork,
        hypervisor: Hypervisor,
        region: str,
    ) -> None:
        self._plan = plan
        self._table = table
        self._clockwork = clockwork
        self._hypervisor = hypervisor
        self._zones = [f"{region}{letter}" for letter in "abc"]
        self._default_key = f"arn:aws:kms:{region}:123456789012:key/{uuid.uuid4()}"
        self._tokens = Tokens()
        self._deleted: dict[str, VolumeFact] = {}
        self._one_at_a_time = threading.Lock()  # two calls with one token make one volume

    def create(self, request: Request) -> bytes:
        """Make a volume, or answer with the one that the token stands for."""
        zone = request.get("AvailabilityZone")
        with self._one_at_a_time:
            known = self._tokens.volume_of(zone, request.parameters)
            if known:
                return answers.answer(request.action, answers.volume(self._known(known)))
            fact = self._make(request, zone)
            self._tokens.note(zone, request.parameters, fact.volume_id)
            self._hypervisor.provision(fact.volume_id, fact.size_bytes)
            self._table.put(fact, request.action)
        self._clockwork.begin(fact.volume_id, self._plan.creating, lambda: self._end_creation(fact.volume_id))
        return answers.answer(request.action, answers.volume(fact))

    def add(self, volumes: Iterable[NewVolume]) -> list[str]:
        """Make many volumes at once, past the API."""
        facts = [
            new_volume(
                each.volume_type,
                each.size_gib,
                each.zone or self._zones[0],
                status="available",
                tags=dict(each.tags),
            )
            for each in volumes
        ]
        for fact in facts:
            self._hypervisor.provision(fact.volume_id, fact.size_bytes)
            self._table.put(fact)
        return [fact.volume_id for fact in facts]

    def forget_tokens(self) -> None:
        """Let tokens that were used count as new, as they do after a time."""
        with self._one_at_a_time:
            self._tokens.forget()

    def clear(self) -> None:
        """Delete all volumes at once, past the API; none may be attached."""
        for fact in self._table.all():
            self._clockwork.cancel(fact.volume_id)
            self._end_deletion(fact.volume_id)

    def delete(self, request: Request) -> bytes:
        """Delete a volume that is not attached."""
        volume_id = request.required("VolumeId")
        with self._table.lock:
            fact = self._table.get(volume_id)
            if fact.attachment is not None:
                raise refusals.ATTACHED_STILL(volume_id, fact.attachment.instance_id)
            if fact.status == "deleting":
                raise refusals.NO_VOLUME(volume_id)
            if fact.status == "creating":
                raise refusals.IN_STATE(volume_id, fact.status)
            self._table.put(replace(fact, status="deleting"), request.action)
        self._clockwork.begin(volume_id, self._plan.deleting, lambda: self._end_deletion(volume_id))
        return answers.answer(request.action, answers.done())

    def _known(self, volume_id: str) -> VolumeFact:
        fact = self._table.find(volume_id)
        if fact is not None and fact.status != "deleting":
            return fact
        if self._plan.burnt_tokens == "refused":
            raise refusals.TOKEN_OF_DELETED()
        return fact or self._deleted[volume_id]

    def _make(self, request: Request, zone: str) -> VolumeFact:
        check_tags(request.new_tags("volume"))
        if zone not in self._zones:
            raise refusals.NO_ZONE(zone)
        fact = asked_volume(request, zone, self._default_key)
        if len(self._table.all()) >= self._plan.volume_limit:
            raise refusals.TOO_MANY_VOLUMES(self._plan.volume_limit)
        return fact

    def _end_creation(self, volume_id: str) -> None:
        ends = self._plan.creation_ends
        with self._table.lock:
            fact = self._table.get(volume_id)
            if ends == "available" and fact.kms_key_id in self._plan.bad_kms_keys:
                ends = "error"
            if ends != "gone":
                self._table.put(replace(fact, status=ends))
                return
        self._end_deletion(volume_id)

    def _end_deletion(self, volume_id: str) -> None:
        with self._table.hand(volume_id):
            self._deleted[volume_id] = replace(self._table.get(volume_id), status="deleting")
            self._table.remove(volume_id)
            self._hypervisor.discard(volume_id)
