"""What Cinder tells of a project's limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.drivers.cinder.recorded import LIMITS, Answering
from volplug.drivers.base import BackendLimit
from volplug.drivers.cinder.quota import read_quota
from volplug.errors import BackendError
from volplug.sizes import GIB


@pytest.mark.parametrize(
    ("recorded", "volumes", "size_bytes"), [("ten volumes", 10, None), ("1000 gigabytes", None, 1000 * GIB)]
)
async def test_limits_of_volumes_and_gigabytes_are_read_and_minus_one_is_none(
    recorded: str, volumes: int | None, size_bytes: int | None
) -> None:
    caller = Answering({"GET /limits": LIMITS[recorded]})
    assert await read_quota(caller) == (
        BackendLimit("volumes", 2, volumes, "volumes"),
        BackendLimit("gigabytes", 3 * GIB, size_bytes, "bytes"),
    )
    assert len(caller.calls) == 1


@pytest.mark.parametrize(
    "limits",
    [
        {"absolute": {"maxTotalVolumes": 10, "maxTotalVolumeGigabytes": 1000}},  # not allowed to see the use
        {"absolute": {**LIMITS["ten volumes"]["limits"]["absolute"], "totalVolumesUsed": None}},
        {"absolute": []},
        {},
        None,
    ],
)
async def test_an_answer_without_what_is_used_is_an_error(limits: Mapping[str, Any] | None) -> None:
    with pytest.raises(BackendError, match="does not tell how much of its limits is used"):
        await read_quota(Answering({"GET /limits": {"limits": limits}}))
