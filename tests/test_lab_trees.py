"""Debian trees for tests are made once, completely or not at all, and again when they are old."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab import trees
from tests.lab.kept import cache

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_DEBOOTSTRAP = """\
#!/bin/sh
# Replaces debootstrap: --variant=minbase [--include=...] SUITE TARGET MIRROR
echo "$@" >>"$(dirname "$0")/calls"
while [ "${1#--}" != "$1" ]; do shift; done
mkdir -p "$2"
[ "$1" != broken ] || { echo "E: no such suite"; exit 1; }
echo "$1" >"$2/suite"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The arguments of debootstrap, a line for each call; the cache is empty."""
    program = tmp_path / "bin" / "debootstrap"
    program.parent.mkdir()
    program.write_text(_DEBOOTSTRAP)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("VOLPLUG_TEST_CACHE", str(tmp_path / "cache"))
    calls = program.with_name("calls")
    calls.touch()
    return calls


def _kept() -> list[str]:
    return sorted(path.name for path in cache().iterdir() if path.is_dir())


def test_a_tree_is_made_once_for_equal_requests(calls: Path) -> None:
    wanted = [("bookworm", ["a", "b"]), ("bookworm", ["b", "a", "b"])] * 3
    with ThreadPoolExecutor() as together:
        made = set(together.map(lambda each: trees.tree(*each), wanted))
    assert [(path / "suite").read_text() for path in made] == ["bookworm\n"]
    assert len(calls.read_text().splitlines()) == 1
    assert trees.tree("bookworm", ["a"]) not in made
    assert "--include=a bookworm" in calls.read_text()


def test_a_tree_that_cannot_be_made_is_an_error_and_leaves_nothing(calls: Path) -> None:
    with pytest.raises(RuntimeError, match="debootstrap of broken failed:\nE: no such suite"):
        trees.tree("broken")
    assert _kept() == []


def test_old_and_unfinished_trees_are_replaced(calls: Path) -> None:
    key = trees.tree("bookworm").name.rpartition("-")[0]
    for path in cache().glob(f"{key}-*/"):
        path.rename(path.with_name(f"{key}-{int(time.time()) - 15 * 24 * 3600}"))
    (cache() / f"unfinished-{key}-1").mkdir()
    fresh = trees.tree("bookworm")
    assert (fresh / "suite").is_file()
    assert len(calls.read_text().splitlines()) == 2
    # The one that this process used first is kept while it is in use.
    assert [name.startswith(f"{key}-") for name in _kept()] == [True, True]
