"""Filters and pages of DescribeVolumes and DescribeInstances.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumes.html,
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html: values of one filter are joined by OR,
filters by AND; upper and lower case differ; `*` and `?` are wildcards, a backslash takes their meaning away.
"""

import base64
import binascii
import bisect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from tests.ec2sim import refusals
from tests.ec2sim.facts import Instance, VolumeFact

_MOST_VALUES: Final = 200
_FEWEST_RESULTS: Final = 5
_MOST_RESULTS: Final = 1000
_WILD: Final = re.compile(r"[*?\\]")
_PART: Final = re.compile(r"\\[*?\\]|.", re.DOTALL)
_T = TypeVar("_T")

_Values = Callable[[_T], Sequence[str]]


_VOLUME: Final[Mapping[str, _Values[VolumeFact]]] = {
    "status": lambda fact: [fact.status],
    "volume-id": lambda fact: [fact.volume_id],
    "availability-zone": lambda fact: [fact.zone],
    "size": lambda fact: [str(fact.size_gib)],
    "volume-type": lambda fact: [fact.volume_type],
    "encrypted": lambda fact: [str(fact.encrypted).lower()],
    "tag-key": lambda fact: list(fact.tags),
    "attachment.instance-id": lambda fact: [fact.attachment.instance_id] if fact.attachment else [],
    "attachment.device": lambda fact: [fact.attachment.device] if fact.attachment else [],
    "attachment.status": lambda fact: [fact.attachment.status] if fact.attachment else [],
}
_INSTANCE: Final[Mapping[str, _Values[Instance]]] = {
    "instance-id": lambda fact: [fact.instance_id],
    "instance-state-name": lambda fact: [fact.state],
    "availability-zone": lambda fact: [fact.zone],
}


def volume_filter(filters: Mapping[str, Sequence[str]]) -> Callable[[VolumeFact], bool]:
    """Return what tells whether a volume passes all filters.

    Raises:
        Refused: If one is unknown, or there are too many values.
    """
    return _filter(filters, lambda name: _tag(name) if name.startswith("tag:") else _VOLUME.get(name))


def instance_filter(filters: Mapping[str, Sequence[str]]) -> Callable[[Instance], bool]:
    """Return what tells whether an instance passes all filters."""
    return _filter(filters, _INSTANCE.get)


def _tag(name: str) -> _Values[VolumeFact]:
    key = name.removeprefix("tag:")
    return lambda fact: [fact.tags[key]] if key in fact.tags else []


def page(items: Sequence[_T], key: Callable[[_T], str], most: int | None, token: str) -> tuple[list[_T], str]:
    """Return one page of a sorted listing, and the token of the next page, empty at the end.

    Raises:
        Refused: If the token or the length of the page is not right.
    """
    if most is not None and most < _FEWEST_RESULTS:
        why = f"Expecting a value greater than or equal to {_FEWEST_RESULTS}."
        raise refusals.BAD_VALUE("maxResults", most, why)
    try:
        last = base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise refusals.BAD_TOKEN() from exc
    start = bisect.bisect_right(items, last, key=key)  # also where that item is no more
    end = len(items) if most is None else start + min(most, _MOST_RESULTS)
    chosen = list(items[start:end])
    if end >= len(items):
        return chosen, ""
    return chosen, base64.urlsafe_b64encode(key(chosen[-1]).encode()).decode()


def _filter(
    filters: Mapping[str, Sequence[str]], reader: Callable[[str], _Values[_T] | None]
) -> Callable[[_T], bool]:
    if sum(len(values) for values in filters.values()) > _MOST_VALUES:
        raise refusals.TOO_MANY_FILTER_VALUES()
    tests = []
    for name, values in filters.items():
        read = reader(name)
        if read is None:
            raise refusals.BAD_FILTER(name)
        tests.append((read, _matcher(values)))

    def passes(fact: _T) -> bool:
        return all(any(is_match(value) for value in read(fact)) for read, is_match in tests)

    return passes


def _matcher(values: Iterable[str]) -> Callable[[str], bool]:
    plain = {value for value in values if not _WILD.search(value)}
    wild = [re.compile(_PART.sub(_expression, value), re.DOTALL) for value in values if value not in plain]
    return lambda text: text in plain or any(each.fullmatch(text) for each in wild)


def _expression(part: re.Match[str]) -> str:
    return {"*": ".*", "?": "."}.get(part[0]) or re.escape(part[0][-1])
