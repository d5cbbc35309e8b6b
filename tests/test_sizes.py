import pytest
from hypothesis import given
from hypothesis import strategies as st

from volplug.errors import InvalidSize
from volplug.sizes import GIB, MIB, TIB, format_size, parse_size, round_up, rounded_size

ADVICE = "Write a number and a unit, such as 10GiB or 512MiB."


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("10", 10 * GIB),
        ("10GiB", 10 * GIB),
        ("10GB", 10 * GIB),
        ("10G", 10 * GIB),
        ("10g", 10 * GIB),
        (" 10 gib ", 10 * GIB),
        ("10Gi", 10 * GIB),
        ("1e1", 10 * GIB),
        ("1e+03", 1000 * GIB),
        ("1e", 2**60),
        ("3.3333333333333335MiB", 3495253),
        ("512mb", 512 * MIB),
        ("64K", 64 * 1024),
        ("10B", 10),
        ("10b", 10),
        ("1.5T", 1536 * GIB),
        ("0.5", GIB // 2),
        ("0.000001GiB", 1073),
        ("2P", 2048 * TIB),
        ("1EiB", 1024 * 1024 * TIB),
        ("007", 7 * GIB),
        ("999999999999999999B", 999999999999999999),
    ],
)
def test_sizes_as_users_write_them(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "G",
            "GiB",
            ".5G",
            "5.G",
            "1.5X",
            "-1",
            "-1GiB",
            "+1",
            "0x10",
            "1_000",
            "1,5G",
            "1 2",
        ),
        *(
            "10iB",
            "10GiBs",
            "10KiBB",
            "1.2.3",
            "ten",
            "\u0661\u0660",
            "10\x00",
            "1e100",
            "9" * 19,
            "nan",
            "inf",
        ),
    ],
)
def test_an_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidSize) as refused:
        parse_size(text)
    assert refused.value.cause == f"size {text!r} cannot be read"
    assert str(refused.value).endswith(ADVICE)


@pytest.mark.parametrize("text", ["0", "0B", "0.0T", "0.000001K", "0.9B"])
def test_a_size_of_zero_is_refused(text: str) -> None:
    with pytest.raises(InvalidSize) as refused:
        parse_size(text)
    assert str(refused.value) == f"size {text!r} is not above zero. {ADVICE}"


def test_a_very_long_number_is_refused_in_one_line() -> None:
    with pytest.raises(InvalidSize) as refused:
        parse_size("9" * 10_000)
    assert len(str(refused.value)) <= 300
    assert str(refused.value).startswith("size '999")
    assert str(refused.value).endswith(ADVICE)


@given(st.integers(1, 10**18 - 1))
def test_a_written_size_reads_back(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.text(max_size=30))
def test_any_text_is_a_size_above_zero_or_an_invalid_size(text: str) -> None:
    try:
        assert parse_size(text) > 0
    except InvalidSize as refused:
        assert len(str(refused)) <= 300  # noqa: PT017  # both outcomes are checked


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (1, "1B"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (MIB, "1MiB"),
        (1536 * MIB, "1536MiB"),
        (GIB + 512, "1073742336B"),
        (1024 * GIB, "1TiB"),
        (0, "0B"),
    ],
)
def test_sizes_are_written_in_the_largest_unit_that_divides_them(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (40976 * 1024, "40.0MiB"),
        (2665704 * 1024, "2.5GiB"),
        (3 * 1024 * GIB, "3.0TiB"),
    ],
)
def test_sizes_for_people_have_one_decimal(size_bytes: int, text: str) -> None:
    assert rounded_size(size_bytes) == text


@given(st.integers(0, 2**70), st.integers(1, 2**40))
def test_rounding_goes_up_by_less_than_one_unit(size_bytes: int, unit_bytes: int) -> None:
    rounded = round_up(size_bytes, unit_bytes)
    assert rounded % unit_bytes == 0
    assert 0 <= rounded - size_bytes < unit_bytes
