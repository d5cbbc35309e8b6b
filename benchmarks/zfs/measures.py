"""Measures and targets of volumes on ZFS."""

from collections.abc import Sequence

from benchmarks import measures as m
from benchmarks.measures import Measure
from benchmarks.targets import Part, Target

CREATE = Measure("zfs.create", "Create on ZFS")
CREATE_COMMANDS = Measure("zfs.create.commands", "The commands of a Create on ZFS alone")
MOUNT = Measure("zfs.mount", "Mount of a detached volume on ZFS")
MOUNT_COMMANDS = Measure("zfs.mount.commands", "The commands of a Mount on ZFS alone")
UNMOUNT = Measure("zfs.unmount", "Last Unmount on ZFS, until it is answered")
GONE = Measure("zfs.gone", "The same on ZFS until the volume is detached")
REMOVE = Measure("zfs.remove", "Remove on ZFS")
REMOVE_COMMANDS = Measure("zfs.remove.commands", "The commands of a Remove on ZFS alone")
GET = Measure("zfs.get", "Get of a detached volume on ZFS")
LIST = Measure("zfs.list", "List of 1,000 on ZFS")
LIST_ANEW = Measure("zfs.list.anew", "List of 1,000 on ZFS after a change, which reads them anew")

MEASURES: Sequence[Measure] = (
    CREATE, CREATE_COMMANDS, MOUNT, MOUNT_COMMANDS, UNMOUNT, GONE, REMOVE, REMOVE_COMMANDS, GET, LIST,
    LIST_ANEW,
)  # fmt: skip

_HTTP = "HTTP, ledger writes, threads"
_FACTOR = 1.5


def _ratio(measure: Measure, commands: Measure | None, first: str, more: str, rest: str) -> Target:
    """Limit a measure by the one command that does the same; what more is run is measured by hand, too."""
    parts = [Part(first, measure, m.SHELL)]
    if commands is not None:
        parts.append(Part(more, commands))
    return Target(measure, _FACTOR, (measure, m.SHELL), tuple(parts), rest)


TARGETS: Sequence[Target] = (
    _ratio(
        CREATE,
        CREATE_COMMANDS,
        "`zfs create`",
        "`zfs get` twice and `zfs set`: is there one of that name, which guid has the new one, write it",
        _HTTP,
    ),
    _ratio(
        MOUNT,
        MOUNT_COMMANDS,
        "`zfs mount`",
        "`zfs get`: is it still the same dataset",
        f"{_HTTP}, the bind mount from the staging directory",
    ),
    _ratio(
        UNMOUNT,
        None,
        "`zfs unmount`",
        "",
        f"the release test, on zfs-fuse another `zfs mount`; {_HTTP}",
    ),
    _ratio(
        REMOVE,
        REMOVE_COMMANDS,
        "`zfs destroy`",
        "`zfs get`, and a mount namespace of its own for `zfs destroy`",
        _HTTP,
    ),
)
