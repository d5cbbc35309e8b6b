"""The checks of doctor: each looks at one thing and returns what it found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from volplug.doctor.examination import Examination
from volplug.findings import Finding

# A coroutine function named `check_` and what it checks; raises VolplugError if it cannot be done.
Check = Callable[[Examination], Awaitable[Sequence[Finding]]]

# In the order in which their findings are shown.
CHECKS: Final[tuple[Check, ...]] = ()
