"""Measures and targets of volumes on EBS."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

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
CALLS_GET = Measure("ebs.calls.get", "Calls to EC2 for Get of a detached volume", "")
CALLS_LIST = Measure("ebs.calls.list", "Calls to EC2 for List of 1,000", "")
RSS_START = Measure("ebs.rss.start", "Resident memory after the start with a backend on EBS", "MiB")
RSS_SOME = Measure("ebs.rss.some", "Resident memory after some of each call", "MiB")
RSS_WORK = Measure("ebs.rss.work", "Resident memory after 50 Mounts at once and List of 1,000 as well", "MiB")
IDLE_CPU = Measure("ebs.idle.cpu", "Idle with a backend on EBS: processor time")
IDLE_CALLS = Measure("ebs.idle.calls", "Idle with a backend on EBS: calls to EC2", "")

CREATING_S: Final = 1.0
ATTACHING_S: Final = 2.0
DETACHING_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """One step in the life cycle of a volume: how long it takes, and its calls to EC2.

    Attributes:
        took: Until it is answered, or until EC2 shows it.
        calls: All calls of the step, those after its answer included.
        most_calls: How many there may be in addition to the polls while waiting.
    """

    took: Measure
    calls: Measure
    most_calls: int


class Steps:
    """The steps of a life cycle while EC2's states are slow or quick.

    Args:
        pace: "slow" or "quick".
    """

    def __init__(self, pace: str) -> None:
        self.pace = pace

        def step(key: str, title: str, most_calls: int) -> Step:
            return Step(
                Measure(f"ebs.{pace}.{key}", f"{pace.capitalize()}: {title}"),
                Measure(f"ebs.{pace}.{key}.calls", f"Calls, {pace}: {title}", ""),
                most_calls,
            )

        self.create = step("create", "Create", 2)
        self.first = step("first", "Create and the first Mount, which formats", 6)
        self.mount = step("mount", "Mount of a formatted, detached volume", 2)
        self.unmount = Measure(
            f"ebs.{pace}.unmount", f"{pace.capitalize()}: last Unmount, until it is answered"
        )
        self.gone = step("gone", "last Unmount, until EC2 says available", 1)
        self.again = step("again", "Mount right after the answer of the last Unmount", 3)
        self.remove_now = step("remove-now", "Remove right after the answer of the last Unmount", 3)
        self.remove = step("remove", "Remove of a detached volume", 2)
        self.creates = step("creates", "50 Creates at once", 100)
        self.mounts = step("mounts", "50 first Mounts at once after them", 200)
        self.removes = step("removes", "50 last Unmounts at once, then 50 Removes", 150)
        self.all = (
            self.create, self.first, self.mount, self.gone, self.again, self.remove_now, self.remove,
            self.creates, self.mounts, self.removes,
        )  # fmt: skip


SLOW: Final = Steps("slow")
QUICK: Final = Steps("quick")

MEASURES: Sequence[Measure] = (
    FIRST, CREATE, CREATE_ADDED, MOUNT, MOUNT_ADDED, LATE, LATE_ADDED, UNMOUNT, GONE, GONE_ADDED, REMOVE,
    REMOVE_ADDED, ONE, MANY, MANY_RATIO, MANY_CALLS, SLOW_ONE, SLOW_MANY, SLOW_RATIO,
    SLOW.unmount, *(each.took for each in SLOW.all),
    *(each.took for each in (QUICK.first, QUICK.again, QUICK.remove_now)),  # all else is measured in turns
    *(each.took for each in (QUICK.creates, QUICK.mounts, QUICK.removes)),
    *(each.calls for each in SLOW.all), *(each.calls for each in QUICK.all),
    GET_MOUNTED, GET, GET_AGAIN, LIST, CALLS_GET, CALLS_LIST, RSS_START, RSS_SOME, RSS_WORK, IDLE_CPU,
    IDLE_CALLS,
)  # fmt: skip

TARGETS: Sequence[Target] = (
    Target(CREATE_ADDED, 50, rest="HTTP, ledger, the driver's threads, a pause that batches look-ups"),
    Target(
        MOUNT_ADDED,
        50,
        rest="HTTP, ledger writes, the pause for look-ups, reading the disk, identification",
    ),
    Target(LATE_ADDED, 50, rest="the same, and the event of the device"),
    *(Target(each.calls, each.most_calls, waited=each.took) for steps in (SLOW, QUICK) for each in steps.all),
    Target(SLOW.remove_now.took, 1000 * (DETACHING_S + 1)),
    Target(RSS_SOME, 110, parts=(Part("after the start", RSS_START, m.VOLPLUG),), rest="the SDK, and calls"),
    Target(
        RSS_WORK, 110, parts=(Part("after some of each call", RSS_SOME, m.VOLPLUG),), rest="threads, answers"
    ),
    Target(IDLE_CPU, 5),
    Target(IDLE_CALLS, 0),
)
