"""What the log warns of at the start."""

import asyncio
import os
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from volplug.config import load_settings
from volplug.errors import BackendUnavailable, ConfigurationError
from volplug.start_checks import warn_of_unusable_backends, warn_of_variables
from volplug.testing.memory import MemoryCloud, MemoryDriver
from volplug.variables import CLOUD_VARIABLES


class _Unusable(MemoryDriver):
    """A driver whose backend cannot be used."""

    def __init__(self, fault: Exception | None = None, unmet: Sequence[ConfigurationError] = ()) -> None:
        super().__init__(MemoryCloud(), "node-a")
        self._fault, self._unmet = fault, unmet

    def unmet_requirements(self) -> Sequence[ConfigurationError]:
        return self._unmet

    async def health(self) -> None:
        assert not self._unmet, "asked although something is missing"
        if self._fault is None:
            await asyncio.Event().wait()
        else:
            raise self._fault


async def test_each_backend_that_cannot_be_used_is_warned_of_and_no_other() -> None:
    cloud = MemoryCloud()
    missing = (ConfigurationError("no cluster", "Name it"), ConfigurationError("no SDK"))
    with capture_logs() as logged:
        await warn_of_unusable_backends(
            {
                "right": MemoryDriver(cloud, "node-a"),
                "unset": _Unusable(unmet=missing),
                "away": _Unusable(BackendUnavailable("it does not answer")),
                "hung": _Unusable(),
                "bug": _Unusable(ZeroDivisionError()),
            },
            timeout_s=0.05,
        )
    assert cloud.calls == ["health"]
    shown = {(entry["backend"], entry["event"], entry.get("error", "")) for entry in logged}
    assert shown == {
        ("unset", "backend cannot be used", "no cluster. Name it."),
        ("unset", "backend cannot be used", "no SDK."),
        ("away", "backend cannot be used", "it does not answer."),
        ("hung", "backend does not answer", ""),
        ("bug", "backend cannot be checked", ""),
    }


_DOUBT = "volumes are made on the disk of this host"
_PREEMPT = "REXRAY_PREEMPT takes volumes only from hosts that are proven dead"
_IN_FORCE = "variables of REX-Ray are in force"


@pytest.mark.parametrize(
    ("variables", "events"),
    [
        ({}, []),
        ({"VOLPLUG_LOGLEVEL": "debug"}, ["unknown variable ignored"]),
        ({"REXRAY_LOGLEVEL": "info"}, [_IN_FORCE]),
        ({"REXRAY_PREEMPT": "true"}, [_IN_FORCE, _PREEMPT]),
        ({"REXRAY_PREEMPT": "false"}, [_IN_FORCE]),
        ({"REXRAY_PREEMPT": "true", "VOLPLUG_TAKEOVER": "proof"}, []),
        ({"AWS_PROFILE": "me"}, [_DOUBT]),
        ({"EBS_ACCESSKEY": "x"}, [_DOUBT]),
        ({"EBS_ACCESSKEY": "x", "VOLPLUG_BACKEND": "loop"}, []),
    ],
)
def test_variables_that_may_mean_something_else_are_warned_of(
    variables: dict[str, str], events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clouds = [prefix for cloud in CLOUD_VARIABLES for prefix in cloud.prefixes]
    for name in os.environ:
        if name.startswith(("VOLPLUG_", "REXRAY_", *clouds)):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with capture_logs() as logged:
        warn_of_variables(load_settings())
    assert [entry["event"] for entry in logged] == events
    is_warning = {entry["event"]: entry["log_level"] == "warning" for entry in logged}
    assert is_warning == {event: event != _IN_FORCE for event in events}
    assert [entry["did_you_mean"] for entry in logged if "did_you_mean" in entry] == (
        ["VOLPLUG_LOG_LEVEL"] if "VOLPLUG_LOGLEVEL" in variables else []
    )
