import pytest

from tests.lab.checker import check_records


def test_records_that_were_written_and_not_yet_acknowledged_may_exist() -> None:
    check_records([1, 2, 4], [1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("acknowledged", "found", "what"),
    [
        ([1, 2, 3], [1, 2], "acknowledged records are missing"),
        ([1, 2, 3], [], "acknowledged records are missing"),
        ([1, 2, 3], [1, 3], "there is a gap"),
        ([1, 2, 3], [1, 2, 2, 3], "there is a gap"),
        ([1, 2, 1, 2, 3], [1, 2, 3], "it started again from the beginning"),
        ([], [1], "nothing was ever acknowledged"),
    ],
)
def test_every_loss_is_detected(acknowledged: list[int], found: list[int], what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        check_records(acknowledged, found)
