"""Checks of the settings and of the backends: what each driver finds, or else whether it can be used."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Final

from volplug.doctor.examination import Examination, isolated
from volplug.drivers.base import Diagnoses, HasRequirements
from volplug.findings import Finding, Level

_CHECK: Final = "backend"
_SHOWN_S: Final = 20.0  # volplug asks each backend for its health and limits
_DIAGNOSIS_S: Final = 60.0  # a cloud is asked for many things one after the other


async def check_settings(examination: Examination) -> Sequence[Finding]:
    """Show all mistakes in flags, environment and file."""
    where = examination.settings.file or "no configuration file"
    if not examination.mistakes:
        return [Finding("settings", Level.GREEN, where, "no mistakes found")]
    return [Finding("settings", Level.RED, "", each.cause, each.remedy) for each in examination.mistakes]


async def check_backend(examination: Examination) -> Sequence[Finding]:
    """Ask each driver, at the same time; and the running volplug, which may have other credentials."""
    shown = await _shown_by_daemon(examination)
    found = await asyncio.gather(
        *(
            isolated(
                _CHECK,
                _findings_of_backend(examination, name, shown.get(name)),
                _DIAGNOSIS_S,
                name,
            )
            for name in examination.drivers
        )
    )
    return [finding for findings in found for finding in findings]


async def _shown_by_daemon(examination: Examination) -> Mapping[str, Mapping[str, Any]]:
    """Return the backends as the running volplug shows them; empty if it does not run."""
    client = examination.client()
    if client is None:
        return {}

    def read() -> Mapping[str, Mapping[str, Any]]:
        with closing(client):
            return {body["name"]: body for body in client.get("backends")["backends"]}

    work = asyncio.ensure_future(examination.blocking(read))
    done, _ = await asyncio.wait({work}, timeout=_SHOWN_S)
    return work.result() if done else {}  # what is slow there, the driver's own findings show


async def _findings_of_backend(
    examination: Examination, name: str, shown: Mapping[str, Any] | None
) -> Sequence[Finding]:
    driver, is_served = examination.drivers[name], examination.daemon_pid != 0
    found = partial(Finding, _CHECK, subject=name)
    findings = []
    if shown is not None and (problem := shown["problem"]) is not None:
        message = f"volplug cannot use it: {problem['cause']}"
        findings.append(found(level=Level.RED, message=message, remedy=problem["remedy"]))
    if isinstance(driver, HasRequirements):
        mistakes = await examination.blocking(driver.unmet_requirements)
        unmet = [found(level=Level.RED, message=e.cause, remedy=e.remedy) for e in mistakes]
        if unmet:
            return [*findings, *unmet]
    if isinstance(driver, Diagnoses):
        return [*findings, *await driver.diagnose()]
    # A driver may refuse a second process next to the one that serves: that one has told, or will.
    if shown is None and is_served:
        return [*findings, found(level=Level.YELLOW, message="is not asked: the volplug that runs is silent")]
    if shown is None:
        await driver.health()
    return findings or [found(level=Level.GREEN, message="can be used")]
