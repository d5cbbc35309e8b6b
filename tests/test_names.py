import pytest
from hypothesis import given
from hypothesis import strategies as st

from volplug.errors import InvalidName
from volplug.names import check_name

RULE = "Use 1 to 128 of a-z A-Z 0-9 _ . - beginning with a letter or digit."
FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@pytest.mark.parametrize(
    "name",
    ["v", "0", "A", "todolist", "my_app.db-1", "a..b", "a-", "a." * 64, "x" * 128, "0123456789abcdef" * 4],
)
def test_allowed_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "''"),
        (".", "'.'"),
        ("..", "'..'"),
        ("../etc", "'../etc'"),
        ("a/b", "'a/b'"),
        ("/abs", "'/abs'"),
        ("-rf", "'-rf'"),
        ("_v", "'_v'"),
        (".hidden", "'.hidden'"),
        ("two words", "'two words'"),
        (" v", "' v'"),
        ("v ", "'v '"),
        ("v\n", r"'v\n'"),
        ("a\x00b", r"'a\x00b'"),
        ("a\x1b[31mb", r"'a\x1b[31mb'"),
        ("volumé", r"'volum\xe9'"),
        ("\u202ev", r"'\u202ev'"),
        ("\u0661", r"'\u0661'"),
        ("v\U0001f4be", r"'v\U0001f4be'"),
        ("a,b", "'a,b'"),
        ("a:b", "'a:b'"),
        ("x" * 129, f"'{'x' * 40}... (129 characters)'"),
        ("y" * 300, f"'{'y' * 40}... (300 characters)'"),
        ("z" * 10_000, f"'{'z' * 40}... (10000 characters)'"),
    ],
)
def test_the_text_for_other_names(name: str, shown: str) -> None:
    with pytest.raises(InvalidName) as refused:
        check_name(name)
    assert str(refused.value) == f"volume name {shown} is not allowed. {RULE}"


def test_a_name_with_options_is_refused_with_their_place() -> None:
    """Portworx reads them out of names, and job files for Nomad have them there."""
    with pytest.raises(InvalidName) as refused:
        check_name("name=mysqlvol,size=10,repl=3")
    assert str(refused.value) == (
        "volume name 'name=mysqlvol,size=10,repl=3' is not allowed. A name holds no options: give "
        "them as -o, as driver_opts in Compose and Terraform, as options of driver_config in Nomad."
    )


@given(st.text(max_size=200))
def test_an_accepted_name_is_one_harmless_path_component(name: str) -> None:
    try:
        check_name(name)
    except InvalidName as refused:
        assert len(str(refused)) <= 300  # noqa: PT017  # both outcomes are checked
    else:
        assert 1 <= len(name) <= 128
        assert name[0] in FIRST
        assert not set(name) - set(FIRST + "_.-")
        assert name not in {".", ".."}
