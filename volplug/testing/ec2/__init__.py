"""A served EC2 for tests: the API with its slowness and its faults, and devices that appear when attached.

Needs the extra `testing-ec2`.
"""

from volplug.testing.ec2.calls import Call, Calls
from volplug.testing.ec2.cloud import Ec2Cloud
from volplug.testing.ec2.facts import Attachment, Instance, NewVolume, VolumeFact
from volplug.testing.ec2.handle import CloudHandle
from volplug.testing.ec2.hypervisor import Hypervisor, MemoryHypervisor
from volplug.testing.ec2.loops import LoopHypervisor
from volplug.testing.ec2.plan import FaultPlan, Refusal, Slow
from volplug.testing.ec2.remote import RemoteEc2Cloud

__all__ = [
    "Ec2Cloud",
    "RemoteEc2Cloud",
    "CloudHandle",
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
