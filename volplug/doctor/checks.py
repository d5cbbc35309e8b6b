"""The checks of doctor: each looks at one thing and returns what it found. All run at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from volplug.doctor.backends import check_backend, check_settings
from volplug.doctor.daemon import check_daemon, check_plugin_socket
from volplug.doctor.engine import check_engine
from volplug.doctor.examination import Examination, isolated
from volplug.doctor.host import (
    check_capabilities,
    check_clock,
    check_devices,
    check_filesystem,
    check_kernel,
    check_mount_propagation,
    check_program,
)
from volplug.doctor.leftovers import check_loop_devices, check_mounts
from volplug.doctor.state import check_space, check_state_directory, check_state_file
from volplug.doctor.volumes import check_unused, check_volumes
from volplug.findings import Finding

# A coroutine function named `check_` and what it checks; raises VolplugError if it cannot be done.
Check = Callable[[Examination], Awaitable[Sequence[Finding]]]

# In the order in which their findings are shown.
CHECKS: Final[tuple[Check, ...]] = (
    check_settings,
    check_capabilities,
    check_kernel,
    check_filesystem,
    check_program,
    check_devices,
    check_clock,
    check_mount_propagation,
    check_state_directory,
    check_state_file,
    check_space,
    check_daemon,
    check_plugin_socket,
    check_engine,
    check_backend,
    check_volumes,
    check_mounts,
    check_loop_devices,
    check_unused,
)
_TIMEOUT_S: Final = 90.0  # of each; those on backends take longest, and have shorter ones of their own


async def findings_of(
    examination: Examination, checks: Sequence[Check] = CHECKS, timeout_s: float = _TIMEOUT_S
) -> Sequence[Finding]:
    """Run checks at the same time; one that fails or hangs does not keep the others from their findings."""
    found = await asyncio.gather(*(isolated(_name(check), check(examination), timeout_s) for check in checks))
    return [finding for findings in found for finding in findings]


def _name(check: Check) -> str:
    return getattr(check, "__name__", "check").removeprefix("check_").replace("_", "-")
