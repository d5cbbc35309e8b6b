"""What users get wrong: one clear line, and nothing lost."""

import asyncio
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab.plugin import VolplugProcess
from tests.served.conftest import LocalMachine
from tests.served.volumes import image_of, is_mounted, mount_of, record_of, wait_until_detached

pytestmark = [pytest.mark.loop, pytest.mark.contract]

_NAME_RULE = "Use 1 to 128 of a-z A-Z 0-9 _ . - beginning with a letter or digit."
_SIZE_RULE = "Write a number and a unit, such as 10GiB or 512MiB."


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a/b", "'a/b'"),
        ("../../etc", "'../../etc'"),
        ("..", "'..'"),
        ("a b", "'a b'"),
        ("-x", "'-x'"),
        ("\u00fcn\u00ef", "'\\xfcn\\xef'"),
        ("a\nb\x00", "'a\\nb\\x00'"),
        ("x" * 300, f"'{'x' * 40}... (300 characters)'"),
        ("y" * 10_000, f"'{'y' * 40}... (10000 characters)'"),
        ("", "''"),
    ],
)
async def test_a_name_that_is_not_allowed(
    shared_dockerd: Dockerd, shared_volplug: VolplugProcess, name: str, shown: str
) -> None:
    for verb in ("Create", "Mount", "Unmount", "Remove"):
        error = await shared_dockerd.error(verb, Name=name, ID="a")
        assert error == f"volume name {shown} is not allowed [{verb.lower()}]. {_NAME_RULE}"
    assert not list(shared_volplug.state_dir.glob("backends/**/*.img"))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": "0"}, f"size '0' is not above zero. {_SIZE_RULE}"),
        ({"size": "-1"}, f"size '-1' cannot be read. {_SIZE_RULE}"),
        ({"size": "1.5X"}, f"size '1.5X' cannot be read. {_SIZE_RULE}"),
        (
            {"size": ""},
            "option 'size' is empty. Set the variable that it comes from, or leave the option out.",
        ),
        (
            {"size": "1EiB"},
            "size 1048576TiB is above the maximum of 16TiB of driver loop. "
            "Ask for less; a number without a unit is GiB.",
        ),
        ({"size": "4MiB"}, "size 4MiB is below the minimum of 8MiB for ext4."),
        ({"size": "100MiB", "fs": "xfs"}, "size 100MiB is below the minimum of 300MiB for xfs."),
        ({"fs": "ntfs"}, "unknown filesystem 'ntfs'. Use one of btrfs, ext4, xfs."),
        ({"backend": "ebs"}, "backend 'ebs' is not configured. Backends are loop."),
        ({"profile": "gold"}, "unknown profile 'gold'. Profiles are default, sparse."),
        (
            {"mode": "rwx"},
            "option 'mode' is 'rwx'. "
            "Write octal permission bits, such as 0750; in YAML in quotes, or it becomes another number.",
        ),
        ({"uid": "-1"}, "option 'uid' is '-1'. Write a number from 0 to 4294967294."),
        (
            {"mkfs-opts": "-F"},
            "option 'mkfs-opts' has '-F', which is not allowed for ext4. Allowed are, each with a value: "
            "-C -E -G -I -L -N -O -T -b -i -m.",
        ),
        (
            {"mount-opts": "ro"},
            "option 'mount-opts' has 'ro', which is not allowed. "
            "Use docker run -v NAME:/path:ro for read-only.",
        ),
        (
            {"sise": "1"},
            "unknown option 'sise'. Did you mean 'size'? All options are listed by -o help.",
        ),
    ],
)
async def test_an_option_that_cannot_be(
    shared_dockerd: Dockerd, shared_volplug: VolplugProcess, options: dict[str, str], error: str
) -> None:
    cause, full_stop, remedy = error.partition(". ")
    shown = f'{cause.removesuffix(".")} [create "db"].{full_stop[1:]}{remedy}'
    assert await shared_dockerd.error("Create", Name="db", Opts=options) == shown
    assert await shared_dockerd.ok("List") == {"Volumes": []}
    assert not image_of(shared_volplug, "db").exists()


async def test_more_than_the_disk_has_is_refused_and_leaves_nothing(machine: LocalMachine) -> None:
    small = machine.directory / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", small], check=True)
    try:
        with VolplugProcess(machine, state_dir=small) as volplug:
            async with Dockerd(machine.directory / "p.sock") as dockerd:
                directory = image_of(volplug, "db").parent
                for profile in ("default", "sparse"):
                    options = {"size": "1GiB", "profile": profile}
                    error = await dockerd.error("Create", Name="db", Opts=options)
                    assert re.fullmatch(
                        rf"1GiB do not fit: {directory} has 6\d\.\dMiB free "
                        rf'\[create "db", loop, node {platform.node()}\]\. '
                        r"Free some space, or ask for a smaller size\.",
                        error,
                    )
                assert [path.name for path in directory.iterdir()] == [".backend-id"]
                await dockerd.ok("Create", Name="db", Opts={"size": "32MiB"})
                await dockerd.ok("Remove", Name="db")
    finally:
        subprocess.run(["umount", small], check=True)


async def test_a_filesystem_without_its_mkfs_names_those_that_are_there(machine: LocalMachine) -> None:
    hide = "mount --bind /dev/null $(command -v mkfs.xfs) && exec python3 -m volplug serve"
    argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", hide.replace("python3", "$PYTHON")]
    with VolplugProcess(machine, argv=argv, env={"PYTHON": sys.executable}):
        async with Dockerd(machine.directory / "p.sock") as dockerd:
            error = await dockerd.error("Create", Name="db", Opts={"fs": "xfs"})
            assert error == (
                'mkfs.xfs is not installed on this host [create "db"]. Install it, or use one of btrfs, ext4.'
            )
            await dockerd.ok("Create", Name="db", Opts={"size": "8MiB"})
            await dockerd.ok("Remove", Name="db")


async def test_mount_of_an_unknown_volume(dockerd: Dockerd, volplug: VolplugProcess) -> None:
    assert await dockerd.error("Mount", Name="nope", ID="a") == (
        f'no such volume [mount "nope", loop, node {platform.node()}]. '
        "Create it: docker volume create -d volplug nope."
    )
    assert not mount_of(volplug, "nope").exists()


async def test_unmounts_that_nobody_mounted_succeed_and_disturb_nobody(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    await dockerd.ok("Create", Name="db", Opts={"size": "8MiB"})
    await dockerd.ok("Unmount", Name="db", ID="never")
    await dockerd.ok("Mount", Name="db", ID="a")
    for mount_id in ("never", ""):
        await dockerd.ok("Unmount", Name="db", ID=mount_id)
    await dockerd.ok("Unmount", Name="db")
    assert is_mounted(volplug, "db")
    await dockerd.ok("Unmount", Name="db", ID="a")
    await dockerd.ok("Unmount", Name="db", ID="a")
    assert not is_mounted(volplug, "db")
    wait_until_detached(volplug, "db")


async def test_one_id_mounted_thrice_is_unmounted_after_the_third(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    await dockerd.ok("Create", Name="db", Opts={"size": "8MiB"})
    for _ in range(3):
        await dockerd.ok("Mount", Name="db", ID="a")
    for _ in range(2):
        await dockerd.ok("Unmount", Name="db", ID="a")
        assert is_mounted(volplug, "db")
    await dockerd.ok("Unmount", Name="db", ID="a")
    assert not is_mounted(volplug, "db")
    wait_until_detached(volplug, "db")


async def _together(machine: LocalMachine, calls: list[tuple[str, dict[str, object]]]) -> list[str]:
    """Make calls at the same time, each on its own connection; return the errors, empty for success."""

    async def one(verb: str, body: dict[str, object]) -> str:
        async with Dockerd(machine.directory / "p.sock") as client:
            answer = (await client.call(verb, **body)).json
            return str(answer.get("Err", ""))

    return list(await asyncio.gather(*(one(verb, body) for verb, body in calls)))


async def test_fifty_mounts_of_one_volume_at_once(
    dockerd: Dockerd, volplug: VolplugProcess, machine: LocalMachine
) -> None:
    await dockerd.ok("Create", Name="db", Opts={"size": "8MiB"})
    calls: list[dict[str, object]] = [{"Name": "db", "ID": f"id{number}"} for number in range(50)]
    assert await _together(machine, [("Mount", body) for body in calls]) == [""] * 50
    status = (await dockerd.ok("Get", Name="db"))["Volume"]["Status"]
    assert status["mountCount"] == 50
    assert await _together(machine, [("Unmount", body) for body in calls[:-1]]) == [""] * 49
    assert is_mounted(volplug, "db")
    await dockerd.ok("Unmount", **calls[-1])
    assert not is_mounted(volplug, "db")
    wait_until_detached(volplug, "db")


async def test_fifty_volumes_mounted_at_once(
    dockerd: Dockerd, volplug: VolplugProcess, machine: LocalMachine
) -> None:
    names = [f"v{number}" for number in range(50)]
    small = {"size": "8MiB", "profile": "sparse"}
    assert (
        await _together(machine, [("Create", {"Name": name, "Opts": small}) for name in names]) == [""] * 50
    )
    assert await _together(machine, [("Mount", {"Name": name, "ID": "a"}) for name in names]) == [""] * 50
    for name in names:
        (mount_of(volplug, name) / "data" / "who").write_text(name)
    assert await _together(machine, [("Unmount", {"Name": name, "ID": "a"}) for name in names]) == [""] * 50
    assert await _together(machine, [("Mount", {"Name": name, "ID": "b"}) for name in names]) == [""] * 50
    assert [(mount_of(volplug, name) / "data" / "who").read_text() for name in names] == names
    assert await _together(machine, [("Unmount", {"Name": name, "ID": "b"}) for name in names]) == [""] * 50
    for name in names:
        wait_until_detached(volplug, name)


async def test_create_twice_is_success_if_equal_and_names_what_differs(
    dockerd: Dockerd, volplug: VolplugProcess
) -> None:
    await dockerd.ok("Create", Name="db", Opts={"size": "8MiB", "mode": "0700"})
    record = record_of(volplug, "db").read_bytes()
    await dockerd.ok("Create", Name="db", Opts={"SIZE": "8mib", "mode": "0700"})
    await dockerd.ok("Create", Name="db", Opts=None)
    assert await dockerd.error("Create", Name="db", Opts={"size": "16MiB", "fs": "btrfs"}) == (
        'size 16MiB is below the minimum of 128MiB for btrfs [create "db"].'
    )
    assert await dockerd.error("Create", Name="db", Opts={"size": "16MiB", "mode": "0750"}) == (
        "a volume of this name exists and differs: mode is 0700, not 0750, size is 8MiB, not 16MiB "
        '[create "db"]. '
        "Use it as it is, or choose another name."
    )
    assert record_of(volplug, "db").read_bytes() == record


async def test_concurrent_creates_make_one_volume(dockerd: Dockerd, machine: LocalMachine) -> None:
    equal: list[tuple[str, dict[str, object]]] = [("Create", {"Name": "db", "Opts": {"size": "8MiB"}})] * 8
    assert await _together(machine, equal) == [""] * 8
    different: list[tuple[str, dict[str, object]]] = [
        ("Create", {"Name": "other", "Opts": {"size": f"{number}MiB"}}) for number in range(8, 16)
    ]
    answers = await _together(machine, different)
    assert answers.count("") == 1
    assert all(
        answer.startswith("a volume of this name exists and differs: size is") for answer in answers if answer
    )
    assert [each["Name"] for each in (await dockerd.ok("List"))["Volumes"]] == ["db", "other"]


@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
async def test_options_shape_the_filesystem_once(dockerd: Dockerd, volplug: VolplugProcess, fs: str) -> None:
    options = {"size": "300MiB", "fs": fs, "uid": "999", "gid": "998", "mode": "0750"}
    await dockerd.ok("Create", Name="db", Opts={**options, "mkfs-opts": "-L mine", "mount-opts": "noatime"})
    path = Path((await dockerd.ok("Mount", Name="db", ID="a"))["Mountpoint"])
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o7777) == (999, 998, 0o750)
    mounted = subprocess.run(
        ["findmnt", "-no", "FSTYPE,OPTIONS,LABEL", path.parent], check=True, capture_output=True, text=True
    ).stdout.split()
    assert mounted[0] == fs
    assert "noatime" in mounted[1].split(",")
    path.chmod(0o700)
    (path / "kept").write_text("data")
    await dockerd.ok("Unmount", Name="db", ID="a")
    await dockerd.ok("Mount", Name="db", ID="b")
    assert (path / "kept").read_text() == "data"
    assert path.stat().st_mode & 0o7777 == 0o700
    await dockerd.ok("Unmount", Name="db", ID="b")
    wait_until_detached(volplug, "db")
