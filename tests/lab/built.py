"""The managed plugin, built by `make plugin` as users build it, and kept between runs.

There is no registry to pull the Dockerfile's base image from. A debootstrap tree without the files that the
slim images of Debian leave out replaces it, under the same name.
"""

import functools
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.engine import Engine
from tests.lab.kept import kept
from tests.lab.programs import checked
from tests.lab.trees import tree

_ROOT = Path(__file__).parents[2]
# All that a build reads; a change in any of them is a new build.
_SOURCES = [
    "Dockerfile",
    ".dockerignore",
    "Makefile",
    "README.md",
    "config.json",
    "constraints.txt",
    "pyproject.toml",
    "scripts",
    "volplug",
]
_MAX_AGE_S = 24 * 3600.0
_BUILD_TIMEOUT_S = 1800.0
_NOT_IN_SLIM_IMAGES = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
]
_OF_PIP = ("index-url", "proxy", "trusted-host")
_CERTIFICATES = "etc/pip-certificates.pem"


@dataclass(frozen=True)
class BuiltPlugin:
    """The result of `make plugin`.

    Attributes:
        directory: has ``config.json`` and ``rootfs``, for `docker plugin create`; not to be changed.
        image: what `docker image inspect` shows of the image.
        plugin: what `docker plugin inspect` shows of the plugin.
    """

    directory: Path
    image: Mapping[str, Any]
    plugin: Mapping[str, Any]


@functools.cache
def built_plugin() -> BuiltPlugin:
    """Build the plugin of the code as this process first finds it, once per version; that takes a minute."""
    base = tree(_base_name().partition(":")[2].removesuffix("-slim"))
    key = hashlib.sha256(base.name.encode())
    for path in _source_files():
        key.update(f"{path.relative_to(_ROOT)} {path.stat().st_mode} {path.stat().st_size}\n".encode())
        key.update(path.read_bytes())
    made = kept("plugin", key.hexdigest()[:12], lambda directory: _build(base, directory), _MAX_AGE_S)
    shown = {name: json.loads((made / f"{name}.json").read_text())[0] for name in ("image", "plugin")}
    return BuiltPlugin(made / "build", shown["image"], shown["plugin"])


def _source_files() -> list[Path]:
    found: list[Path] = []
    for name in _SOURCES:
        source = _ROOT / name
        found += [source] if source.is_file() else (path for path in source.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def _base_name() -> str:
    named = re.search(r"^ARG BASE=(\S+)$", (_ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert named is not None
    return named[1]


def _build(base: Path, target: Path) -> None:
    # A copy, so that the build neither changes the directory of the code nor sees a change of it halfway.
    source = target / "source"
    for path in _source_files():
        copy = source / path.relative_to(_ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    with Engine(own_network=False) as engine:
        _import_base(engine, base)
        make = ["env", "BUILD_FLAGS=--network=host", "make", "-C", str(source), "plugin"]
        checked(engine.run(make, timeout_s=_BUILD_TIMEOUT_S))
        (target / "image.json").write_text(engine.docker("image", "inspect", "volplug-rootfs:volplug").stdout)
        (target / "plugin.json").write_text(engine.docker("plugin", "inspect", "volplug").stdout)
    (target / "build").mkdir()
    for part in ("config.json", "rootfs"):
        (source / part).rename(target / "build" / part)
    shutil.rmtree(source)


def _import_base(engine: Engine, base: Path) -> None:
    settings = engine.directory / "base"
    (settings / "etc").mkdir(parents=True)
    _add_settings_of_pip(settings)
    added = [str(path.relative_to(settings)) for path in (settings / "etc").iterdir()]
    command = ["tar", *(f"--exclude=./{name}/*" for name in _NOT_IN_SLIM_IMAGES)]
    command += ["-c", "-C", str(base), ".", "-C", str(settings), *added]
    archive = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    engine.docker("import", "-", _base_name(), input=archive)


def _add_settings_of_pip(target: Path) -> None:
    """Let the build reach the package index that this machine uses; apt's mirror is in the tree already."""
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    # Of two lines for one setting, the environment's comes first and takes effect.
    settings: dict[str, str] = {}
    for key, value in re.findall(r"^(?::env:|global|install)\.([\w-]+)='(.*)'$", shown, re.MULTILINE):
        settings.setdefault(key, value)
    lines = ["[global]", *(f"{key} = {value}" for key, value in settings.items() if key in _OF_PIP)]
    if "cert" in settings:
        shutil.copy(settings["cert"], target / _CERTIFICATES)
        lines.append(f"cert = /{_CERTIFICATES}")
    (target / "etc" / "pip.conf").write_text("\n".join([*lines, ""]))
