"""The quota of the project: how many volumes, and of how much space, it may have and has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from volplug.drivers.base import BackendLimit
from volplug.drivers.cinder.openstack import CINDER, Call, OpenStackCaller, answered
from volplug.errors import BackendError
from volplug.sizes import GIB

_LIMITS: Final = Call(CINDER, "GET", "/limits", expects="limits")
_UNLIMITED: Final = -1


async def read_quota(caller: OpenStackCaller) -> Sequence[BackendLimit]:
    """Ask Cinder for the project's limits.

    Raises:
        BackendError: If it does not tell what is used, as where its policies do not let it.
    """
    answer = await answered(caller, _LIMITS)
    try:
        absolute = answer["limits"]["absolute"]
        return _read_limits({key: int(value) for key, value in absolute.items()})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BackendError(
            "Cinder does not tell how much of its limits is used",
            "Check the policy limits_extension:used_limits",
        ) from error


def _read_limits(absolute: Mapping[str, int]) -> Sequence[BackendLimit]:
    """Read what concerns volumes: https://docs.openstack.org/api-ref/block-storage/v3/#limits-limits."""
    volumes, gigabytes = absolute["maxTotalVolumes"], absolute["maxTotalVolumeGigabytes"]
    return (
        BackendLimit(
            "volumes", absolute["totalVolumesUsed"], None if volumes == _UNLIMITED else volumes, "volumes"
        ),
        BackendLimit(
            "gigabytes",
            absolute["totalGigabytesUsed"] * GIB,
            None if gigabytes == _UNLIMITED else gigabytes * GIB,
            "bytes",
        ),
    )
