"""Device names: what AttachVolume has to be given. Pure.

EC2 wants a name for each attachment that no other volume of the instance has. On Nitro it is no more than
that; on Xen the device appears under it. The names are those of
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html but for /dev/sd[f-p], which people and
other tools take first.
"""

from __future__ import annotations

import hashlib
import string
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from volplug.errors import LimitExceeded

_PREFIX: Final = "/dev/xvd"


def _names(first_letters: str) -> tuple[str, ...]:
    return tuple(f"{_PREFIX}{one}{two}" for one in first_letters for two in string.ascii_lowercase)


NITRO_NAMES: Final = _names("abcd")
XEN_NAMES: Final = _names("bc")
_BAD_FOR_S: Final = 3600.0
# EC2 knows a name as taken for a moment after its device has gone.
_RESTS_S: Final = 60.0


class DeviceNames:
    """Chooses names: none that is in use, in flight, known as bad, or was given up a moment ago.

    Args:
        names: All that may be used.
        clock: Seconds that never go back.
    """

    def __init__(self, names: tuple[str, ...], clock: Callable[[], float]) -> None:
        self._names = names
        self._clock = clock
        self._used: dict[str, str] = {}
        self._bad: dict[str, float] = {}
        self._left: OrderedDict[str, float] = OrderedDict()

    def take(self, volume_id: str, visible: Collection[str] = ()) -> str:
        """Choose a name for a volume; it is the volume's until `leave`.

        Args:
            volume_id: Where the search begins depends on it, so that hosts and restarts rarely collide.
            visible: Names under which this host sees devices.

        Raises:
            LimitExceeded: If there is none left.
        """
        name = self._choose(volume_id, visible)
        self.use(name, volume_id)
        return name

    def use(self, name: str, volume_id: str) -> None:
        """Note that a volume is attached, or about to be, under a name."""
        self._used = {each: owner for each, owner in self._used.items() if owner != volume_id}
        self._used[name] = volume_id
        self._left.pop(name, None)

    def leave(self, volume_id: str) -> None:
        """Note that a volume is not attached any more."""
        for name in [each for each, owner in self._used.items() if owner == volume_id]:
            del self._used[name]
            self._left[name] = self._clock()
            self._left.move_to_end(name)

    def avoid(self, name: str) -> None:
        """Note that a name is taken by somebody else, or that attaching under it got stuck."""
        self._bad[name] = self._clock() + _BAD_FOR_S

    def _choose(self, volume_id: str, visible: Collection[str]) -> str:
        now = self._clock()
        self._bad = {name: until for name, until in self._bad.items() if until > now}
        digest = hashlib.sha256(volume_id.encode()).digest()
        start = int.from_bytes(digest[:4], "big") % len(self._names)
        free = [
            name
            for name in (*self._names[start:], *self._names[:start])
            if name not in self._used and name not in self._bad and name not in visible
        ]
        if not free:
            raise LimitExceeded(
                f"all {len(self._names)} device names of this instance are taken", "Detach volumes from it"
            )
        rested = (name for name in free if now - self._left.get(name, -_RESTS_S) >= _RESTS_S)
        # If all were left a moment ago, the one that was left first.
        return next(rested, min(free, key=lambda name: self._left.get(name, 0.0)))
