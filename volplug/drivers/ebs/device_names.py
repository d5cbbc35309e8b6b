"""Chooses the device names that AttachVolume has to be given. Pure.

EC2 requires a name for each attachment, unique within the instance. On Nitro it has no other use; on Xen the
device appears under it. The names are those of
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html except /dev/sd[f-p], which users and
other tools choose first.
"""

from __future__ import annotations

import hashlib
import math
import string
from collections.abc import Callable, Collection
from typing import Final

from cachetools import TTLCache

from volplug.drivers.ebs.timeouts import BAD_NAME_S, NAME_RESTS_S
from volplug.errors import LimitExceeded


def _names(first_letters: str) -> tuple[str, ...]:
    return tuple(f"/dev/xvd{one}{two}" for one in first_letters for two in string.ascii_lowercase)


NITRO_NAMES: Final = _names("abcd")
XEN_NAMES: Final = _names("bc")


class DeviceNames:
    """Chooses names that are not in use, not known as bad, and preferably not released recently.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._used: dict[str, str] = {}  # by volume id
        self._bad = TTLCache[str, bool, float](len(NITRO_NAMES), BAD_NAME_S, timer=clock)
        self._left_at_s = TTLCache[str, float, float](len(NITRO_NAMES), NAME_RESTS_S, timer=clock)

    def take(self, volume_id: str, names: tuple[str, ...], visible: Collection[str] = ()) -> str:
        """Choose a name for a volume; it is the volume's until `leave`.

        Args:
            volume_id: The search begins at its hash, so that hosts and restarts rarely collide.
            names: All names that may be used.
            visible: Names of devices that this host has.

        Raises:
            LimitExceeded: If none is left.
        """
        digest = hashlib.sha256(volume_id.encode()).digest()
        start = int.from_bytes(digest[:4], "big") % len(names)
        taken = {*self._used.values(), *self._bad, *visible}
        free = [name for name in (*names[start:], *names[:start]) if name not in taken]
        if not free:
            raise LimitExceeded(
                f"all {len(names)} device names of this instance are taken", "Detach volumes from it"
            )
        # The first name that was not released recently, else the one released first.
        name = min(free, key=lambda each: self._left_at_s.get(each, -math.inf))
        self._used[volume_id] = name
        self._left_at_s.pop(name, None)
        return name

    def leave(self, volume_id: str) -> None:
        """Release a volume's name."""
        if name := self._used.pop(volume_id, ""):
            self._left_at_s[name] = self._clock()

    def avoid(self, name: str) -> None:
        """Mark a name as bad: another party uses it, or an attach under it got stuck."""
        self._bad[name] = True
