"""Errors of invalid requests as users see them: the prefix of Docker, then our exact text.

The texts of all other wrong options and names are tested at the socket (tests/served/test_bad_input.py).
"""

import json
import socket
from typing import Any

import pytest

from tests.engine.pairs import ON_EACH, ON_NEWEST, ON_OLDEST
from tests.engine.use import IMAGE, create, refusal, volumes
from tests.lab.engine import Engine
from tests.lab.managed import Volplug
from tests.lab.requirements import ENGINE

pytestmark = ENGINE

_NAME_RULE = "Use 1 to 128 of a-z A-Z 0-9 _ . - beginning with a letter or digit."


def _mount_option(*options: str) -> str:
    return ",".join(["type=volume,source=db,target=/data,volume-driver=volplug", *options])


@ON_EACH
@pytest.mark.parametrize(
    ("options", "cause", "remedy"),
    [
        (["sise=64MiB"], "unknown option 'sise'", " Did you mean 'size'? All options are listed by -o help."),
        (["fs=xfs", "size=100MiB"], "size 100MiB is below the minimum of 300MiB for xfs", ""),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_an_invalid_option(empty_engine: Engine, options: list[str], cause: str, remedy: str) -> None:
    shown = f'create db: VolumeDriver.Create: {cause} [create "db"].{remedy}'
    given = [f"--opt={each}" for each in options]
    assert refusal(empty_engine, "volume", "create", "--driver=volplug", *given, "db") == shown
    mount = _mount_option(*(f"volume-opt={each}" for each in options))
    assert refusal(empty_engine, "run", "--rm", "--mount", mount, IMAGE, "true") == shown
    assert volumes(empty_engine) == []


@ON_NEWEST
@pytest.mark.parametrize("name", ["\u00fcn\u00ef", "x" * 129])
def test_a_name_that_is_not_allowed(empty_engine: Engine, name: str) -> None:
    shown = ascii(name) if len(name) < 100 else f"'{name[:40]}... ({len(name)} characters)'"
    expected = (
        f"create {name}: VolumeDriver.Create: volume name {shown} is not allowed [create]. {_NAME_RULE}"
    )
    assert refusal(empty_engine, "volume", "create", "--driver=volplug", name) == expected
    mount = ("--volume-driver=volplug", "-v", f"{name}:/data")
    assert refusal(empty_engine, "run", "--rm", *mount, IMAGE, "true") == expected
    assert volumes(empty_engine) == []


@ON_NEWEST
def test_help_lists_the_options_of_the_backend(empty_engine: Engine) -> None:
    shown = refusal(empty_engine, "volume", "create", "--driver=volplug", "--opt=help", "db")
    options = (
        "allocation=preallocated|sparse, backend=NAME, fs=btrfs|ext4|xfs, gid=0, mkfs-opts='-m 0', "
        "mode=0755, mount-opts=noatime, profile=NAME, size=1GiB, uid=0"
    )
    assert shown == f'create db: VolumeDriver.Create: options of driver loop: {options} [create "db"].'
    assert volumes(empty_engine) == []


def _api(engine: Engine, path: str) -> dict[str, Any]:
    """The answer of the engine's API, because `docker volume ls` does not show its warnings."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(engine.path("/run/docker.sock")))
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    content = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert isinstance(content, dict)
    return content


@ON_OLDEST
def test_a_list_that_fails_is_a_warning_in_addition_to_the_volumes_that_docker_remembers(
    empty_engine: Engine, shared_volplug: Volplug
) -> None:
    create(empty_engine, "db")
    images = shared_volplug.state_dir / "backends" / "loop"
    shared_volplug.stop()
    (shared_volplug.state_dir / "state.sqlite").unlink()
    aside = images.rename(images.with_name("aside"))
    shared_volplug.start()
    listed = _api(empty_engine, "/volumes")
    aside.rename(images)
    assert [volume["Name"] for volume in listed["Volumes"]] == ["db"]
    (warning,) = listed["Warnings"]
    assert "VolumeDriver.List: backend loop cannot be listed: directory " in warning
    empty_engine.docker("volume", "rm", "db")
