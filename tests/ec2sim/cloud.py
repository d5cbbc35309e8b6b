"""A simulated EC2 in this process: volumes, instances and the metadata service."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from tests.ec2sim.attachments import Attachments
from tests.ec2sim.creation import Creation
from tests.ec2sim.facts import REGION
from tests.ec2sim.hypervisor import Hypervisor, ShowsInstances
from tests.ec2sim.instances import Instances, Metadata
from tests.ec2sim.listening import HttpAnswer, HttpRequest, Listener
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.remote import CONTROL_PATH, control
from tests.ec2sim.scheduler import Scheduler
from tests.ec2sim.service import Action, Service
from tests.ec2sim.snapshots import Snapshots, modify_volume
from tests.ec2sim.table import VolumeTable, describe_volumes


class Ec2Cloud(ExitStack[None]):
    """One EC2, which serves until it is closed; two of them in one process share nothing.

    Attributes:
        region: Its region; calls signed for another are refused.
        plan: Its faults and delays.
        calls: The calls so far.
        hypervisor: Makes devices appear.
        endpoint: The URL of the API.
    """

    def __init__(self, hypervisor: Hypervisor, *, address: str = "127.0.0.1") -> None:
        super().__init__()
        self.region = REGION
        self.plan = FaultPlan()
        self.hypervisor = hypervisor
        self._table = VolumeTable(self.plan)
        self._scheduler = Scheduler()
        self._instances = Instances(self.plan, self._scheduler, hypervisor)
        self._snapshots = Snapshots(self._table, hypervisor)
        self._creation = Creation(self.plan, self._table, self._scheduler, hypervisor, self._snapshots)
        self._service = Service(self.plan, self._instances.all, self._actions())
        self.calls = self._service.calls
        self._metadata = Metadata(self._instances.all)
        listener = Listener(address, self._answer)
        if isinstance(hypervisor, ShowsInstances):
            self.callback(hypervisor.close)
        self.callback(self._scheduler.close)
        self.callback(listener.close)  # the last callback runs first
        self.endpoint = listener.url
        self.instances = self._instances.all
        self.add_instance = self._instances.add
        self.set_instance_state = self._instances.set_state
        self.remove_instance = self._instances.remove
        self.volumes = self._table.all  # as they are, without a call
        self.volume = self._table.find
        self.add_volumes = self._creation.add
        self.forget_tokens = self._creation.forget_tokens
        self.set_plan = self.plan.set
        self.end_faults = self.plan.end
        self.settle = self._scheduler.settle

    def imds_endpoint_of(self, instance_id: str) -> str:
        """Return the URL of the metadata service for one instance."""
        return f"{self.endpoint}/as/{instance_id}"

    def end_stale_reads(self) -> None:
        """Let DescribeVolumes and DescribeInstances show all changes so far."""
        self._table.end_stale_reads()
        self._instances.end_stale_reads()

    def start_over(self) -> None:
        """Delete all but the running instances; unlike with a new cloud, clients keep their connections."""
        self.end_faults()
        for instance in self.instances():
            self.set_instance_state(instance.instance_id, "terminated")  # which detaches its volumes
        self.settle()
        for instance in self.instances():
            self.set_instance_state(instance.instance_id, "running")
        self._creation.clear()
        self.forget_tokens()
        self.end_stale_reads()
        self.calls.reset()

    def _actions(self) -> Mapping[str, Action]:
        attachments = Attachments(self.plan, self._table, self._scheduler, self.hypervisor, self._instances)
        self._instances.on_end = attachments.release
        return {
            "CreateVolume": self._creation.create,
            "DeleteVolume": self._creation.delete,
            "DescribeVolumes": partial(describe_volumes, self._table, self._scheduler),
            "AttachVolume": attachments.attach,
            "DetachVolume": attachments.detach,
            "CreateTags": self._creation.create_tags,
            "CreateSnapshot": self._snapshots.create,
            "DescribeSnapshots": self._snapshots.describe,
            "ModifyVolume": partial(modify_volume, self._table, self.hypervisor),
            **self._instances.actions(),
        }

    def _answer(self, request: HttpRequest) -> HttpAnswer | None:
        if request.path == CONTROL_PATH:
            return control(self, request)
        if request.path != "/":
            return self._metadata.answer(request)
        return self._service.answer(request)
