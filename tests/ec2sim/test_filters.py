"""Filters and pages of DescribeVolumes."""

import pytest
from botocore.exceptions import ClientError

from tests.ec2sim import Ec2Cloud, NewVolume
from tests.ec2sim.clients import Caller, error_of
from tests.ec2sim.conftest import INSTANCE
from tests.ec2sim.filters import volume_filter


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"tag:name": "a"}, "a"),
        ({"tag:name": ["a", "c"]}, "ac"),
        ({"tag:name": "A"}, ""),
        ({"tag:name": "?"}, "abc"),
        ({"tag:none": "*"}, ""),
        ({"tag:name": ["a", "b"], "tag:only-b": ""}, "b"),
        ({"status": "in-use"}, "a"),
        ({"status": ["creating", "available", "in-use", "error"]}, "abc"),
        ({"attachment.instance-id": INSTANCE}, "a"),
        ({}, "abc"),
    ],
)
def test_volumes_are_found_by_filters(
    cloud: Ec2Cloud, ec2: Caller, filters: dict[str, str | list[str]], expected: str
) -> None:
    made = cloud.add_volumes(
        [
            NewVolume(tags={"name": "a"}),
            NewVolume(tags={"name": "b", "only-b": ""}),
            NewVolume(tags={"name": "c"}),
        ]
    )
    names = dict(zip(made, "abc", strict=True))
    ec2.attach(made[0], INSTANCE)
    chosen = [
        {"Name": name, "Values": [value] if isinstance(value, str) else value}
        for name, value in filters.items()
    ]
    found = ec2.client.describe_volumes(Filters=chosen)["Volumes"]
    assert sorted(names[each["VolumeId"]] for each in found) == sorted(expected)


@pytest.mark.parametrize(
    ("pattern", "text", "is_match"),
    [
        ("a*", "abc", True),
        ("a*", "xa", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        (r"a\*", "a*", True),
        (r"a\*", "abc", False),
        ("a.c", "abc", False),
        (r"a\\", "a\\", True),
        ("[ab]", "a", False),
        ("*", "", True),
        ("*", "two\nlines", True),
    ],
)
def test_wildcards(cloud: Ec2Cloud, pattern: str, text: str, is_match: bool) -> None:
    cloud.add_volumes([NewVolume(tags={"name": text})])
    [volume] = cloud.volumes()
    assert volume_filter({"tag:name": [pattern]})(volume) is is_match


def test_an_unknown_filter_is_refused(ec2: Caller) -> None:
    with pytest.raises(ClientError) as caught:
        ec2.found(colour="red")
    assert error_of(caught.value) == ("InvalidParameterValue", "The filter 'colour' is invalid", 400)


def test_more_than_200_values_are_refused(ec2: Caller) -> None:
    assert ec2.found(status=[str(number) for number in range(200)]) == []
    with pytest.raises(ClientError) as caught:
        ec2.found(status=[str(number) for number in range(201)])
    assert error_of(caught.value)[0] == "FilterLimitExceeded"


@pytest.mark.parametrize(("count", "size", "pages"), [(12, 5, [5, 5, 2]), (10, 5, [5, 5]), (0, 5, [0])])
def test_pages_follow_one_another(
    cloud: Ec2Cloud, ec2: Caller, count: int, size: int, pages: list[int]
) -> None:
    made = cloud.add_volumes([NewVolume() for _ in range(count)])
    paginator = ec2.client.get_paginator("describe_volumes")
    found = [
        [each["VolumeId"] for each in page["Volumes"]]
        for page in paginator.paginate(PaginationConfig={"PageSize": size})
    ]
    assert [len(page) for page in found] == pages
    assert sorted(volume_id for page in found for volume_id in page) == sorted(made)


def test_a_page_is_whole_when_the_one_before_has_lost_volumes(cloud: Ec2Cloud, ec2: Caller) -> None:
    made = sorted(cloud.add_volumes([NewVolume() for _ in range(10)]))
    first = ec2.client.describe_volumes(MaxResults=5)
    for volume_id in made[:5]:
        ec2.delete(volume_id)
    second = ec2.client.describe_volumes(MaxResults=5, NextToken=first["NextToken"])
    assert [each["VolumeId"] for each in second["Volumes"]] == made[5:]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"MaxResults": 4}, "InvalidParameterValue"),
        ({"MaxResults": 5, "VolumeIds": ["vol-00000000000000000"]}, "InvalidParameterCombination"),
        ({"MaxResults": 5, "NextToken": "x"}, "InvalidPaginationToken"),
    ],
)
def test_invalid_pages_are_refused(ec2: Caller, arguments: dict[str, object], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        ec2.client.describe_volumes(**arguments)
    assert error_of(caught.value)[0] == code
