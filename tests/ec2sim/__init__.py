"""A served EC2 for tests: the API with its slowness and its faults, and devices that appear when attached."""

from tests.ec2sim.cloud import Ec2Cloud
from tests.ec2sim.facts import Attachment, Instance, NewVolume, VolumeFact
from tests.ec2sim.hypervisor import Hypervisor, MemoryHypervisor
from tests.ec2sim.loops import LoopHypervisor
from tests.ec2sim.plan import FaultPlan, Slow
from tests.ec2sim.refusals import Refusal
from tests.ec2sim.remote import RemoteEc2Cloud
from tests.ec2sim.service import Call, Calls

__all__ = [
    "Ec2Cloud",
    "RemoteEc2Cloud",
    "Hypervisor",
    "LoopHypervisor",
    "MemoryHypervisor",
    "FaultPlan",
    "Slow",
    "Refusal",
    "Call",
    "Calls",
    "Attachment",
    "Instance",
    "NewVolume",
    "VolumeFact",
]
