"""The list of all volumes, kept while neither a backend nor this host has anything new to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from volplug.models import Volume
from volplug.volumes.ledger import Entry, Ledger
from volplug.volumes.lookups import Answers
from volplug.volumes.views import VolumeView


@dataclass(frozen=True, slots=True)
class _Kept:
    answers: Answers
    changes: int
    views: Sequence[VolumeView]


class Lists:
    """Makes the list, and keeps the last one: with thousands of volumes the making is what takes the time."""

    def __init__(self, ledger: Ledger, view: Callable[[Volume, Entry | None], VolumeView]) -> None:
        self._ledger = ledger
        self._view = view
        self._kept: _Kept | None = None

    def views(self, answers: Answers) -> Sequence[VolumeView]:
        """Describe what the backends list, and what this host knows of those that could not be asked."""
        kept, changes = self._kept, self._ledger.changes
        if kept is not None and kept.changes == changes and _are_same(kept.answers, answers):
            return kept.views
        views = [
            self._view(volume, self._ledger.get(name))
            for name, volume in sorted(self._volumes(answers).items())
        ]
        self._kept = _Kept(answers, changes, views)
        return views

    def _volumes(self, answers: Answers) -> dict[str, Volume]:
        volumes: dict[str, Volume] = {}
        for answer in answers.values():
            if not isinstance(answer, BaseException):
                volumes = {volume.name: volume for volume in answer} | volumes
        for entry in self._ledger.entries():
            is_unheard = isinstance(answers.get(entry.backend), BaseException)
            if entry.record is not None and (is_unheard or entry.is_busy):
                volumes.setdefault(entry.name, entry.record)
        return volumes


def _are_same(before: Answers, now: Answers) -> bool:
    """Tell whether they are the same objects, and such as cannot have changed inside."""
    return before.keys() == now.keys() and all(
        before[backend] is answer and isinstance(answer, tuple) for backend, answer in now.items()
    )
