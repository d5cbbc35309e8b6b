"""How far this host's clock is ahead of a cloud's."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from volplug.drivers.cloud.service_clock import ServiceClock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dates", "ahead_s"),
    [
        ((), None),
        (("",), None),
        (("yesterday",), None),
        (("Sun, 01 Mar 2026 12:00:00 GMT",), 0.0),
        (("Sun, 01 Mar 2026 11:58:00 GMT",), 120.0),
        (("Sun, 01 Mar 2026 11:58:00 GMT", "Sun, 01 Mar 2026 12:00:30 GMT"), -30.0),
        (("Sun, 01 Mar 2026 11:58:00 GMT", ""), 120.0),  # an answer without a date says nothing
    ],
)
def test_the_last_answer_with_a_date_tells(dates: tuple[str, ...], ahead_s: float | None) -> None:
    clock = ServiceClock(NOW.timestamp)
    for date in dates:
        clock.note(date)
    assert clock.ahead_s == ahead_s
    assert (NOW - clock.now()).total_seconds() == (ahead_s or 0.0)
