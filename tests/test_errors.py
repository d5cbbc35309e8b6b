import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import volplug.api.client_errors
import volplug.app  # noqa: F401  # with the line above, whatever defines errors
from volplug.errors import (
    MAX_TEXT_LENGTH,
    CommandFailed,
    DuplicateVolumes,
    ErrorContext,
    VolplugError,
    VolumeInUse,
    VolumeNotFound,
)

DOCUMENT = Path(__file__).parents[1] / "docs" / "errors.md"
HOSTILE = st.one_of(
    st.text(max_size=400),
    st.text(alphabet="\n\r\t\x00\x1b\x7f\u2028\u202e\U0001f4be\u00e9\ud800", max_size=400),
    st.integers(0, 10_000).map(lambda length: "x" * length),
)
CONTEXTS = st.builds(ErrorContext, st.sampled_from(["create", "unmount"]), HOSTILE, HOSTILE, HOSTILE, HOSTILE)
ORDINARY = ErrorContext("mount", "todolist", "loop", "loop-1a2b3c4d5e6f", "host1")
CONTEXT = ' [mount "todolist", loop loop-1a2b3c4d5e6f, node host1]'


def tree(kind: type[VolplugError] = VolplugError) -> Iterator[type[VolplugError]]:
    """Every error of the package; tests and outside drivers may define more."""
    if kind.__module__.startswith("volplug."):
        yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


def test_every_code_is_unique_and_in_kebab_case() -> None:
    codes = [kind.code for kind in tree()]
    assert len(codes) == len(set(codes))
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []


def test_the_document_lists_exactly_the_existing_codes_and_which_are_retryable() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (yes|no) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted((kind.code, "yes" if kind.retryable else "no") for kind in tree())


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.code)
def test_every_error_has_a_docstring_and_a_code_of_its_own(kind: type[VolplugError]) -> None:
    assert (kind.__doc__ or "").strip()
    assert "code" in vars(kind), f"{kind.__name__} shares the code of its base"


@given(CONTEXTS, HOSTILE, HOSTILE)
def test_any_text_is_one_short_line_of_ascii(context: ErrorContext, cause: str, remedy: str) -> None:
    text = str(VolplugError(cause, remedy).in_context(context))
    assert len(text) <= MAX_TEXT_LENGTH == 300
    assert text.isascii()
    assert text.isprintable()


@given(HOSTILE, HOSTILE)
def test_long_output_of_a_program_is_cut_to_one_line(program: str, output: str) -> None:
    text = str(CommandFailed((program,), 1, output).in_context(ORDINARY))
    assert len(text) <= 300
    assert text.isascii()
    assert text.isprintable()


@given(st.integers(0, 10_000))
def test_the_cause_comes_first_and_context_and_remedy_are_kept(length: int) -> None:
    remedy = "Stop the containers that use it, or wait until they are gone"
    text = str(VolplugError("C" + "x" * length, remedy).in_context(ORDINARY))
    assert text.startswith("C")
    assert text.endswith(f"{CONTEXT}. {remedy}.")
    assert len(text) <= 300


@given(st.integers(0, 2_000))
def test_a_long_remedy_never_replaces_the_cause(length: int) -> None:
    cause = "node host2 holds it"
    text = str(VolplugError(cause, "y" * length).in_context(ORDINARY))
    assert text.startswith(cause + CONTEXT)


@given(st.integers(60, 400))
def test_a_long_cause_is_cut_between_words(length: int) -> None:
    cause = " ".join(["words", "of", "some", "length"] * 30)[:length]
    shown = str(VolplugError(cause).in_context(ORDINARY)).removesuffix(f"{CONTEXT}.").removesuffix("...")
    assert cause.startswith(shown)
    assert set(shown.split()[:-1]) <= {"words", "of", "some", "length"}
    assert shown == cause or shown.split()[-1] in {"words", "of", "some", "length"}


@pytest.mark.parametrize(
    ("context", "text"),
    [
        (None, "no such volume. Create it."),
        (ErrorContext("list"), "no such volume [list]. Create it."),
        (ErrorContext("get", "v"), 'no such volume [get "v"]. Create it.'),
        (ErrorContext("mount", "v", "loop"), 'no such volume [mount "v", loop]. Create it.'),
        (ErrorContext("mount", "v", "loop", "", "h"), 'no such volume [mount "v", loop, node h]. Create it.'),
        (ErrorContext("mount", "v", "", "", "h"), 'no such volume [mount "v", node h]. Create it.'),
        (ORDINARY, f"no such volume{CONTEXT}. Create it."),
        (
            ErrorContext("mount", "a" * 64 + "z" * 64),
            f'no such volume [mount "{"a" * 12}..{"z" * 10}"]. Create it.',
        ),
        (
            ErrorContext("mount", "", "", "", "\U0001d400" * 24),
            r"no such volume [mount, node \U0001d400\U..\U0001d400]. Create it.",
        ),
    ],
)
def test_known_context_is_in_the_text(context: ErrorContext | None, text: str) -> None:
    error = VolumeNotFound("no such volume", "Create it")
    assert str(error.in_context(context) if context else error) == text


@pytest.mark.parametrize(
    ("cause", "remedy", "text"),
    [
        ("it broke", "", "it broke."),
        ("it broke.", "Mend it!", "it broke. Mend it!"),
        ("is it there", "Is its disk mounted?", "is it there. Is its disk mounted?"),
        ("two\nlines\r\n\x1b[31mred", "", "two lines   [31mred."),
        ("caf\u00e9 \U0001f4be", "", "caf\\xe9 \\U0001f4be."),
    ],
)
def test_sentences_end_and_stay_on_one_line(cause: str, remedy: str, text: str) -> None:
    assert str(VolplugError(cause, remedy)) == text


def test_the_context_nearest_to_the_cause_stays() -> None:
    error = VolplugError("it broke").in_context(ErrorContext("inner")).in_context(ErrorContext("outer"))
    assert str(error) == "it broke [inner]."


def test_data_for_programs_is_in_attributes() -> None:
    command = CommandFailed(("mkfs.ext4", "/dev/loop3"), 1, "no space\n")
    assert (command.argv, command.exit_code, command.output) == (("mkfs.ext4", "/dev/loop3"), 1, "no space\n")
    assert command.cause == "mkfs.ext4 ended with exit code 1: no space"
    assert CommandFailed(("true",), 3, " \n").cause == "true ended with exit code 3"
    assert VolumeInUse("held", holder="host2").holder == "host2"
    assert DuplicateVolumes("two", volume_ids=("a", "b")).volume_ids == ("a", "b")
