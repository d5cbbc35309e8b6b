"""What users read when they ask for what cannot be: our exact text, behind what Docker puts before it."""

import pytest

from tests.engine.installations import EACH_INSTALLATION, IN_PAIRS
from tests.engine.use import IMAGE, refusal, volumes
from tests.lab.engine import Engine
from tests.lab.requirements import ENGINE

pytestmark = [*ENGINE, EACH_INSTALLATION, IN_PAIRS]

_VALID = "Valid options are allocation, backend, fs, gid, mkfs-opts, mode, mount-opts, profile, size, uid."
_SIZE_RULE = "Write a number and a unit, such as 10GiB or 512MiB."
_NAME_RULE = "Use 1 to 128 of a-z A-Z 0-9 _ . - beginning with a letter or digit."


def _mount_option(*options: str) -> str:
    return ",".join(["type=volume,source=db,target=/data,volume-driver=volplug", *options])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["sise=64MiB"], f"unknown option 'sise'. Did you mean 'size'? {_VALID}"),
        (["size=0"], f"size '0' is not above zero. {_SIZE_RULE}"),
        (["size=1.5X"], f"size '1.5X' cannot be read. {_SIZE_RULE}"),
        (["size=1EiB"], "size 1048576TiB is above the maximum of 16TiB of driver loop."),
        (["fs=ntfs"], "unknown filesystem 'ntfs'. Use one of btrfs, ext4, xfs."),
        (["fs=xfs", "size=100MiB"], "size 100MiB is below the minimum of 300MiB for xfs."),
        (["backend=ebs"], "backend 'ebs' is not configured. Backends are loop."),
        (["profile=gold"], "unknown profile 'gold'. Profiles are default, sparse."),
        (["mode=rwx"], "option 'mode' is 'rwx'. Write octal permission bits, such as 0750."),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_cannot_be(empty_engine: Engine, options: list[str], error: str) -> None:
    shown = f'create db: create "db": {error}'
    given = [f"--opt={each}" for each in options]
    assert refusal(empty_engine, "volume", "create", "--driver=volplug", *given, "db") == shown
    mount = _mount_option(*(f"volume-opt={each}" for each in options))
    assert refusal(empty_engine, "run", "--rm", "--mount", mount, IMAGE, "true") == shown
    assert volumes(empty_engine) == []


@pytest.mark.parametrize("name", ["a b", "\u00fcn\u00ef", "x" * 129])
def test_a_name_that_is_not_allowed(empty_engine: Engine, name: str) -> None:
    shown = ascii(name) if len(name) < 100 else f"'{name[:40]}... ({len(name)} characters)'"
    expected = f"create {name}: create: volume name {shown} is not allowed. {_NAME_RULE}"
    assert refusal(empty_engine, "volume", "create", "--driver=volplug", name) == expected
    mount = ("--volume-driver=volplug", "-v", f"{name}:/data")
    assert refusal(empty_engine, "run", "--rm", *mount, IMAGE, "true") == expected
    assert volumes(empty_engine) == []


def test_help_lists_the_options_of_the_backend(empty_engine: Engine) -> None:
    shown = refusal(empty_engine, "volume", "create", "--driver=volplug", "--opt=help", "db")
    options = (
        "allocation=preallocated|sparse, backend=NAME, fs=btrfs|ext4|xfs, gid=0, mkfs-opts='-m 0', "
        "mode=0755, mount-opts=noatime, profile=NAME, size=1GiB, uid=0"
    )
    assert shown == f'create db: create "db": options of driver loop: {options}.'
    assert volumes(empty_engine) == []
