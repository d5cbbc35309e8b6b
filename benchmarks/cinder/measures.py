"""Measures and targets of volumes on Cinder."""

from collections.abc import Sequence

from benchmarks import measures as m
from benchmarks.measures import Measure
from benchmarks.targets import Part, Target

FIRST = Measure("cinder.first", "First Get after a start on Cinder: the SDK is imported, a token is fetched")
CREATE = Measure("cinder.create", "Create on Cinder")
CREATE_ADDED = Measure("cinder.create.added", "Create on Cinder: what volplug adds, run by run")
MOUNT = Measure("cinder.mount", "Mount of a formatted, detached volume on Cinder")
MOUNT_ADDED = Measure("cinder.mount.added", "Mount on Cinder: what volplug adds, run by run")
UNMOUNT = Measure("cinder.unmount", "Last Unmount on Cinder, until it is answered (bare: umount alone)")
GONE = Measure("cinder.gone", "The same on Cinder until the device has gone")
GONE_ADDED = Measure("cinder.gone.added", "Unmount and detach on Cinder: what volplug adds, run by run")
REMOVE = Measure("cinder.remove", "Remove on Cinder")
REMOVE_ADDED = Measure("cinder.remove.added", "Remove on Cinder: what volplug adds, run by run")
MANY = Measure("cinder.many", "10 Mounts of 10 volumes on Cinder at once, until the last answer")
GET_MOUNTED = Measure("cinder.get.mounted", "Get of a mounted volume on Cinder")
GET = Measure("cinder.get", "Get of a detached volume on Cinder")
CALLS_CREATE = Measure("cinder.calls.create", "Calls to Cinder and Nova: Create", "")
CALLS_FIRST = Measure("cinder.calls.first", "Calls to Cinder and Nova: first Mount, which formats", "")
CALLS_MOUNT = Measure("cinder.calls.mount", "Calls to Cinder and Nova: Mount of a formatted volume", "")
CALLS_GONE = Measure(
    "cinder.calls.gone", "Calls to Cinder and Nova: last Unmount and the detach after it", ""
)
CALLS_REMOVE = Measure("cinder.calls.remove", "Calls to Cinder and Nova: Remove", "")
RSS_START = Measure("cinder.rss.start", "Resident memory after the start with a backend on Cinder", "MiB")
RSS_WORK = Measure("cinder.rss.work", "Resident memory on Cinder after all this", "MiB")
IDLE_CPU = Measure("cinder.idle.cpu", "Idle with a backend on Cinder: processor time")
IDLE_CALLS = Measure("cinder.idle.calls", "Idle with a backend on Cinder: calls to Cinder and Nova", "")

MEASURES: Sequence[Measure] = (
    FIRST, CREATE, CREATE_ADDED, MOUNT, MOUNT_ADDED, UNMOUNT, GONE, GONE_ADDED, REMOVE, REMOVE_ADDED, MANY,
    GET_MOUNTED, GET, CALLS_CREATE, CALLS_FIRST, CALLS_MOUNT, CALLS_GONE, CALLS_REMOVE, RSS_START, RSS_WORK,
    IDLE_CPU, IDLE_CALLS,
)  # fmt: skip

TARGETS: Sequence[Target] = (
    Target(CREATE_ADDED, 50, rest="HTTP, ledger, the note of the creation, the driver's threads"),
    Target(MOUNT_ADDED, 50, rest="HTTP, ledger writes, reading the disk, identification"),
    Target(
        RSS_WORK,
        110,
        parts=(Part("after the start", RSS_START, m.VOLPLUG),),
        rest="the SDK, threads, calls",
    ),
    Target(IDLE_CPU, 5),
    Target(IDLE_CALLS, 0),
)
