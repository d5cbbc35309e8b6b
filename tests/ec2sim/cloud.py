"""A cloud for tests: EC2 with volumes, instances and a metadata service, in this process."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Final

from tests.ec2sim.attachments import Attachments
from tests.ec2sim.clockwork import Clockwork
from tests.ec2sim.creation import Creation
from tests.ec2sim.facts import Instance
from tests.ec2sim.hypervisor import Hypervisor, ShowsInstances
from tests.ec2sim.instances import Instances, Metadata
from tests.ec2sim.listening import HttpAnswer, HttpRequest, Listener
from tests.ec2sim.plan import FaultPlan
from tests.ec2sim.remote import CONTROL_PATH, control
from tests.ec2sim.service import Action, Service
from tests.ec2sim.table import VolumeTable, describe_volumes

REGION: Final = "eu-central-1"


class Ec2Cloud(ExitStack[None]):
    """A cloud of its own: two of them in one process share nothing. It serves until it is closed.

    Attributes:
        region: Its region; calls signed for another are refused.
        plan: What goes wrong.
        calls: Which calls were made.
        hypervisor: What makes devices appear.
        endpoint: Where the API is.
        imds_endpoint: Where the metadata service is, for callers with an IP address of their own.
    """

    def __init__(self, hypervisor: Hypervisor, *, address: str = "127.0.0.1") -> None:
        super().__init__()
        self.region = REGION
        self.plan = FaultPlan()
        self.hypervisor = hypervisor
        self._table = VolumeTable(self.plan)
        self._clockwork = Clockwork()
        self._instances = Instances(self.plan, self._table, self._clockwork, hypervisor)
        self._creation = Creation(self.plan, self._table, self._clockwork, hypervisor, REGION)
        self._service = Service(REGION, self.plan, self._instances.all, self._actions())
        self.calls = self._service.calls
        metadata = Metadata(self._instances.all, REGION, self.plan)
        api, imds = Listener(address, self._answer), Listener(address, metadata.answer)
        if isinstance(hypervisor, ShowsInstances):
            self.callback(hypervisor.close)
        for end in (self._clockwork.close, api.close, imds.close, self._service.close):
            self.callback(end)  # the last comes first
        self.endpoint, self.imds_endpoint = api.url, imds.url
        self.instances = self._instances.all
        self.set_instance_state = self._instances.set_state
        self.remove_instance = self._instances.remove
        self.volumes = self._table.all  # as they truly are; no call, no look
        self.volume = self._table.find
        self.add_volumes = self._creation.add
        self.forget_tokens = self._creation.forget_tokens
        self.set_plan = self.plan.set
        self.end_faults = self.plan.end
        self.settle = self._clockwork.settle

    def imds_endpoint_of(self, instance_id: str) -> str:
        """Return where the metadata service is for one instance, whatever its address."""
        return f"{self.imds_endpoint}/as/{instance_id}"

    def add_instance(
        self,
        instance_id: str,
        *,
        zone: str = "",
        kind: str = "nitro",
        address: str = "",
        attachment_limit: int = 27,
    ) -> Instance:
        """Start an instance."""
        zone = zone or f"{self.region}a"
        return self._instances.add(
            Instance(instance_id, zone, kind, address=address, attachment_limit=attachment_limit)
        )

    def show_present(self) -> None:
        """Let DescribeVolumes and DescribeInstances hear of all changes so far."""
        self._table.show_present()
        self._instances.show_present()

    def start_over(self) -> None:
        """Be as new, with the same instances: quicker than another cloud, of which no client knows yet."""
        self.end_faults()
        for instance in self.instances():
            self.set_instance_state(instance.instance_id, "terminated")  # EC2 takes its volumes from it
        self.settle()
        for instance in self.instances():
            self.set_instance_state(instance.instance_id, "running")
        self._creation.clear()
        self.forget_tokens()
        self.show_present()
        self.calls.reset()

    def _actions(self) -> Mapping[str, Action]:
        attachments = Attachments(self.plan, self._table, self._clockwork, self.hypervisor, self._instances)
        self._instances.on_end = attachments.release
        return {
            "CreateVolume": self._creation.create,
            "DeleteVolume": self._creation.delete,
            "DescribeVolumes": partial(describe_volumes, self._table, self._clockwork),
            "AttachVolume": attachments.attach,
            "DetachVolume": attachments.detach,
            "CreateTags": self._creation.create_tags,
            "DeleteTags": self._creation.delete_tags,
            **self._instances.actions(),
        }

    def _answer(self, request: HttpRequest) -> HttpAnswer | None:
        return control(self, request) if request.path == CONTROL_PATH else self._service.answer(request)
