"""Filters and pages of DescribeVolumes.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumes.html,
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html: values of one filter are joined by OR,
filters by AND; upper and lower case differ; `*` and `?` are wildcards, a backslash escapes them.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from tests.ec2sim import refusals
from tests.ec2sim.facts import VolumeFact

_MOST_VALUES: Final = 200
_FEWEST_RESULTS: Final = 5
_MOST_RESULTS: Final = 1000
_WILD: Final = re.compile(r"[*?\\]")
_PART: Final = re.compile(r"\\[*?\\]|.", re.DOTALL)

_Values = Callable[[VolumeFact], Sequence[str]]
_VALUES: Final[Mapping[str, _Values]] = {
    "status": lambda fact: [fact.status],
    "volume-id": lambda fact: [fact.volume_id],
    "attachment.instance-id": lambda fact: [fact.attachment.instance_id] if fact.attachment else [],
}


def volume_filter(filters: Mapping[str, Sequence[str]]) -> Callable[[VolumeFact], bool]:
    """Return a predicate: whether a volume matches all filters.

    Raises:
        Refused: If one is unknown, or there are too many values.
    """
    if sum(len(values) for values in filters.values()) > _MOST_VALUES:
        raise refusals.TOO_MANY_FILTER_VALUES()
    tests = [(_values_of(name), _matcher(values)) for name, values in filters.items()]

    def matches(fact: VolumeFact) -> bool:
        return all(any(is_match(value) for value in read(fact)) for read, is_match in tests)

    return matches


def page(volumes: Iterable[VolumeFact], most: int | None, token: str) -> tuple[list[VolumeFact], str]:
    """Return one page of volumes by their ids, and the token of the next page, empty at the end.

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
    left = sorted((each for each in volumes if each.volume_id > last), key=lambda each: each.volume_id)
    chosen = left if most is None else left[: min(most, _MOST_RESULTS)]
    if len(chosen) == len(left):
        return chosen, ""
    return chosen, base64.urlsafe_b64encode(chosen[-1].volume_id.encode()).decode()


def _values_of(name: str) -> _Values:
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return lambda fact: [fact.tags[key]] if key in fact.tags else []
    if name not in _VALUES:
        raise refusals.BAD_FILTER(name)
    return _VALUES[name]


def _matcher(values: Iterable[str]) -> Callable[[str], bool]:
    plain = {value for value in values if not _WILD.search(value)}
    wild = [re.compile(_PART.sub(_expression, value), re.DOTALL) for value in values if value not in plain]
    return lambda text: text in plain or any(each.fullmatch(text) for each in wild)


def _expression(part: re.Match[str]) -> str:
    return {"*": ".*", "?": "."}.get(part[0]) or re.escape(part[0][-1])
