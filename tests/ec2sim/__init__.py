"""A simulated EC2 for tests: the API with its delays and faults, and devices that appear when attached."""

from tests.ec2sim.cloud import Ec2Cloud
from tests.ec2sim.facts import Instance, NewVolume, VolumeFact
from tests.ec2sim.hypervisor import Hypervisor, MemoryHypervisor
from tests.ec2sim.loops import LoopHypervisor
from tests.ec2sim.plan import Slow
from tests.ec2sim.refusals import Refusal
from tests.ec2sim.remote import RemoteEc2Cloud

__all__ = [
    "Ec2Cloud",
    "RemoteEc2Cloud",
    "Hypervisor",
    "LoopHypervisor",
    "MemoryHypervisor",
    "Slow",
    "Refusal",
    "Instance",
    "NewVolume",
    "VolumeFact",
]
