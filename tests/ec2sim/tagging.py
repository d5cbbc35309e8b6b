"""Tags of volumes.

Limits: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tests.ec2sim import refusals
from tests.ec2sim.answers import answer, done
from tests.ec2sim.facts import VolumeFact
from tests.ec2sim.requests import Request
from tests.ec2sim.table import VolumeTable

_MOST_TAGS: Final = 50
_MOST_KEY: Final = 128
_MOST_VALUE: Final = 256


class Tagging:
    """CreateTags and DeleteTags, of volumes."""

    def __init__(self, table: VolumeTable) -> None:
        self._table = table

    def create(self, request: Request) -> bytes:
        """Set tags."""
        tags = {key: value or "" for key, value in request.tags().items()}
        with self._table.lock:
            facts = self._facts(request)
            changed = [replace(fact, tags={**fact.tags, **tags}) for fact in facts]
            for fact in changed:
                check_tags(fact.tags)
            for fact in changed:
                self._table.put(fact, request.action)
        return answer(request.action, done())

    def delete(self, request: Request) -> bytes:
        """Take tags away; with a value given, only if it is the tag's."""
        doomed = request.tags()
        with self._table.lock:
            for fact in self._facts(request):
                left = {
                    key: value
                    for key, value in fact.tags.items()
                    if doomed and (key not in doomed or doomed[key] not in (None, value))
                }
                self._table.put(replace(fact, tags=left), request.action)
        return answer(request.action, done())

    def _facts(self, request: Request) -> list[VolumeFact]:
        wanted = request.listed("ResourceId")
        for each in wanted:
            if not each.startswith("vol-"):
                raise refusals.no_resource(each)
        return [self._table.get(each) for each in wanted]


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse what EC2 refuses.

    Raises:
        Refused: With the reason.
    """
    if len(tags) > _MOST_TAGS:
        raise refusals.TOO_MANY_TAGS(_MOST_TAGS)
    for key, value in tags.items():
        if not 0 < len(key) <= _MOST_KEY or key.lower().startswith("aws:"):
            raise refusals.BAD_TAG_KEY(key)
        if len(value) > _MOST_VALUE:
            raise refusals.LONG_TAG_VALUE(_MOST_VALUE)
