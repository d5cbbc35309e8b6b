"""What is measured of volumes on EBS, and what volplug has to reach there."""

from collections.abc import Sequence

from benchmarks import measures as m
from benchmarks.measures import Measure
from benchmarks.targets import Part, Target

FIRST = Measure("ebs.first", "First Get after a start: the SDK is imported and set up")
CREATE = Measure("ebs.create", "Create")
CREATE_ADDED = Measure("ebs.create.added", "Create: what volplug adds, run by run")
MOUNT = Measure("ebs.mount", "Mount of a formatted, detached volume")
MOUNT_ADDED = Measure("ebs.mount.added", "Mount: what volplug adds, run by run")
UNMOUNT = Measure("ebs.unmount", "Last Unmount, until it is answered (bare: umount alone)")
GONE = Measure("ebs.gone", "The same until the device has gone")
GONE_ADDED = Measure("ebs.gone.added", "Last Unmount and detach: what volplug adds, run by run")
LATE = Measure("ebs.late", "Mount, if the device comes 100 ms after the answer of AttachVolume")
LATE_ADDED = Measure("ebs.late.added", "Mount with such a device: what volplug adds, run by run")
REMOVE = Measure("ebs.remove", "Remove")
REMOVE_ADDED = Measure("ebs.remove.added", "Remove: what volplug adds, run by run")
ONE = Measure("ebs.one", "Mount at 50 ms for each call to EC2")
MANY = Measure("ebs.many", "50 Mounts of 50 volumes at once at 50 ms for each call, until the last answer")
MANY_RATIO = Measure("ebs.many.ratio", "50 at once as a multiple of one, run by run", "x")
SLOW_ONE = Measure("ebs.slow.one", "Mount at 50 ms for each call, the device 1 s after the answer")
SLOW_MANY = Measure("ebs.slow.many", "50 Mounts at once with such devices, until the last answer")
SLOW_RATIO = Measure("ebs.slow.ratio", "50 such devices at once as a multiple of one, run by run", "x")
MANY_CALLS = Measure("ebs.many.calls", "Calls to EC2 for 50 Mounts at once", "")
GET_MOUNTED = Measure("ebs.get.mounted", "Get of a mounted volume, 1,000 others in the cluster")
GET = Measure("ebs.get", "Get of a detached volume, 1,000 others in the cluster")
GET_AGAIN = Measure("ebs.get.again", "The same again within 5 seconds")
LIST = Measure("ebs.list", "List of 1,000 volumes on EBS")
CALLS_CREATE = Measure("ebs.calls.create", "Calls to EC2 for Create", "")
CALLS_FIRST = Measure("ebs.calls.first", "Calls to EC2 for the first Mount, which formats", "")
CALLS_MOUNT = Measure("ebs.calls.mount", "Calls to EC2 for every other Mount", "")
CALLS_UNMOUNT = Measure("ebs.calls.unmount", "Calls to EC2 for the last Unmount and the detach", "")
CALLS_REMOVE = Measure("ebs.calls.remove", "Calls to EC2 for Remove", "")
CALLS_GET = Measure("ebs.calls.get", "Calls to EC2 for Get of a detached volume", "")
CALLS_LIST = Measure("ebs.calls.list", "Calls to EC2 for List of 1,000", "")
RSS_START = Measure("ebs.rss.start", "Resident memory after the start with a backend on EBS", "MiB")
RSS_SOME = Measure("ebs.rss.some", "Resident memory after some of each call", "MiB")
RSS_WORK = Measure("ebs.rss.work", "Resident memory after 50 Mounts at once and List of 1,000 as well", "MiB")
IDLE_CPU = Measure("ebs.idle.cpu", "Idle with a backend on EBS: processor time")
IDLE_CALLS = Measure("ebs.idle.calls", "Idle with a backend on EBS: calls to EC2", "")

MEASURES: Sequence[Measure] = (
    FIRST, CREATE, CREATE_ADDED, MOUNT, MOUNT_ADDED, LATE, LATE_ADDED, UNMOUNT, GONE, GONE_ADDED, REMOVE,
    REMOVE_ADDED, ONE, MANY, MANY_RATIO, MANY_CALLS, SLOW_ONE, SLOW_MANY, SLOW_RATIO, GET_MOUNTED, GET,
    GET_AGAIN, LIST, CALLS_CREATE, CALLS_FIRST, CALLS_MOUNT, CALLS_UNMOUNT, CALLS_REMOVE, CALLS_GET,
    CALLS_LIST, RSS_START, RSS_SOME, RSS_WORK, IDLE_CPU, IDLE_CALLS,
)  # fmt: skip

TARGETS: Sequence[Target] = (
    Target(
        CREATE_ADDED, 50, rest="HTTP, ledger, the driver's threads, a pause to let look-ups come together"
    ),
    Target(
        MOUNT_ADDED,
        50,
        rest="HTTP, ledger writes, the pause for look-ups, the look at the disk, identification",
    ),
    Target(LATE_ADDED, 50, rest="the same, and hearing of the device"),
    Target(CALLS_CREATE, 2),
    Target(CALLS_FIRST, 4),
    Target(CALLS_MOUNT, 2),
    Target(CALLS_UNMOUNT, 1),
    Target(CALLS_REMOVE, 2),
    Target(RSS_SOME, 110, parts=(Part("after the start", RSS_START, m.VOLPLUG),), rest="the SDK, and calls"),
    Target(IDLE_CPU, 5),
    Target(IDLE_CALLS, 0),
)
