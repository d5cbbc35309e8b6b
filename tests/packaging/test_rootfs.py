"""`make plugin` builds in rootfs/, deletes nothing but what it built there, and no other tool looks into it.

Docker is a script here: what the real one makes of it is what tests/engine/test_managed_build.py is about.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_READ = ("config.json", "rootfs/README.md", "scripts/make-plugin", "volplug/__init__.py")
_DOCKER = """\
#!/bin/sh
set -eu
case "$1 $2" in
"plugin inspect") exit 1 ;;
"plugin create") cd "$4" && find . | sort >"$UPLOADED" ;;
create*) echo container ;;
export*) cd "$IMAGE" && tar -c etc ;;
esac
"""


@dataclass(frozen=True)
class Source:
    """A copy of the source, with a root filesystem that was built before."""

    directory: Path
    outside: Path
    uploaded: Path

    def make_plugin(self) -> subprocess.CompletedProcess[str]:
        base = self.directory.parent
        environment = {
            "PATH": f"{base / 'bin'}:{os.environ['PATH']}",
            "UPLOADED": str(self.uploaded),
            "IMAGE": str(base / "image"),
        }
        make = [str(self.directory / "scripts" / "make-plugin")]
        return subprocess.run(make, env=environment, capture_output=True, text=True, check=False)

    def files(self) -> list[str]:
        rootfs = self.directory / "rootfs"
        return sorted(str(path.relative_to(rootfs)) for path in rootfs.rglob("*"))


@pytest.fixture
def source(tmp_path: Path) -> Source:
    directory = tmp_path / "the source"
    for name in _READ:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(_ROOT / name, directory / name)
    for name in ("image/etc/new", "outside/kept", "the source/rootfs/etc/old"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(_DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    (directory / "rootfs" / "link").symlink_to(tmp_path / "outside")
    return Source(directory, tmp_path / "outside", tmp_path / "uploaded")


def test_a_build_takes_the_place_of_the_former_one_and_docker_gets_it_without_the_page(
    source: Source,
) -> None:
    for _ in range(2):
        made = source.make_plugin()
        assert made.returncode == 0, made.stderr
        assert source.files() == ["README.md", "etc", "etc/new"]
        uploaded = source.uploaded.read_text().split()
        assert uploaded == [".", "./config.json", "./rootfs", "./rootfs/etc", "./rootfs/etc/new"]
    assert list((source.directory / "build").iterdir()) == []
    assert (source.outside / "kept").exists()


def _link(source: Source) -> None:
    shutil.rmtree(source.directory / "rootfs")
    (source.directory / "rootfs").symlink_to(source.outside)


def _mount_below(source: Source) -> None:
    # Of the same filesystem, which rm --one-file-system does not stop at.
    place = source.directory / "rootfs" / "etc"
    subprocess.run(["mount", "--bind", str(source.outside), str(place)], check=True)


def _mount(source: Source) -> None:
    place = source.directory / "rootfs"
    subprocess.run(["mount", "--bind", str(source.outside), str(place)], check=True)


@pytest.fixture
def nothing_mounted(source: Source) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    yield
    for place in ("rootfs/etc", "rootfs"):
        subprocess.run(["umount", str(source.directory / place)], check=False)


@pytest.mark.parametrize("change", [_link, _mount_below, _mount])
@pytest.mark.usefixtures("nothing_mounted")
def test_what_is_linked_or_mounted_there_is_refused_untouched(
    source: Source, change: Callable[[Source], None]
) -> None:
    change(source)
    before = source.files()
    refused = source.make_plugin()
    assert refused.returncode == 1
    assert "Undo that first" in refused.stderr
    assert source.files() == before
    assert (source.outside / "kept").exists()
    assert not source.uploaded.exists()


@pytest.mark.parametrize(
    "tool",
    ["ruff check", "ruff format --check", "mypy", "pytest -n0 --collect-only"],
    ids=lambda t: t.split()[0],
)
def test_tools_for_the_source_do_not_look_into_it(tmp_path: Path, tool: str) -> None:
    shutil.copy2(_ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_fine.py").write_text("def test_fine() -> None:\n    pass\n")
    broken = tmp_path / "rootfs" / "usr" / "lib" / "test_broken.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("def broken(:\n")
    command = [sys.executable, "-m", *tool.split(), "."]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
