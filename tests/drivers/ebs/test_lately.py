from volplug.drivers.ebs.lately import Lately


def test_what_is_noted_is_kept_for_its_time_and_then_forgotten() -> None:
    now_s = 0.0
    lately: Lately[str, int] = Lately(lambda: now_s, 10.0)
    lately.note("a", 1)
    now_s = 5.0
    lately.note("b", 2)
    assert (lately.get("a"), lately.get("b"), lately.get("c")) == (1, 2, None)
    now_s = 10.0
    assert (lately.get("a"), lately.pop("a"), lately.pop("b"), len(lately)) == (None, None, 2, 0)


def test_who_is_noted_again_is_kept_anew_and_holds_back_nobody() -> None:
    now_s = 0.0
    lately: Lately[str, int] = Lately(lambda: now_s, 10.0)
    lately.note("a", 1)
    lately.note("b", 2)
    now_s = 5.0
    lately.note("a", 3)
    now_s = 10.0
    assert (len(lately), lately.get("a"), lately.get("b")) == (1, 3, None)
