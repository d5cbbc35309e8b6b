"""Common uses of volumes, on a real engine."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.dockerd import Dockerd
from tests.engine.pairs import ON_EACH, ON_NEWEST, ON_OLDEST
from tests.engine.use import (
    IMAGE,
    SMALL,
    create,
    execute,
    inspect,
    refusal,
    run,
    start,
    volumes,
    wait_until_released,
)
from tests.lab.engine import Engine
from tests.lab.managed import Volplug
from tests.lab.requirements import ENGINE

pytestmark = ENGINE

_CACHE = "/data/nginx/cache"


@ON_EACH
def test_what_one_container_writes_the_next_one_reads(empty_engine: Engine) -> None:
    todolist = ("--volume-driver=volplug", "-v", "todolist:/data")
    run(empty_engine, *todolist, script="echo buy milk >/data/todo")
    assert run(empty_engine, *todolist, script="ls -A /data && cat /data/todo") == "todo\nbuy milk\n"
    empty_engine.docker("volume", "rm", "todolist")


@ON_EACH
def test_two_containers_share_a_volume_until_the_last_one_stops(
    empty_engine: Engine, shared_volplug: Volplug
) -> None:
    create(empty_engine, "shared")
    for name in ("one", "two"):
        start(empty_engine, name, "-v", "shared:/data")
    execute(empty_engine, "one", "echo hello >/data/letter")
    assert execute(empty_engine, "two", "cat /data/letter && echo thanks >>/data/letter") == "hello\n"
    assert execute(empty_engine, "one", "cat /data/letter") == "hello\nthanks\n"
    empty_engine.docker("rm", "-f", "one")
    assert execute(empty_engine, "two", "cat /data/letter") == "hello\nthanks\n"
    assert inspect(empty_engine, "volume", "shared")["Status"]["mountCount"] == 1
    empty_engine.docker("rm", "-f", "two")
    wait_until_released(empty_engine, shared_volplug)
    empty_engine.docker("volume", "rm", "shared")


@ON_NEWEST
def test_containers_that_start_together_use_one_new_volume(
    empty_engine: Engine, shared_volplug: Volplug
) -> None:
    def note(number: int) -> None:
        mount = ("--volume-driver=volplug", "-v", "fresh:/volume")
        run(empty_engine, *mount, script=f"echo {number} >>/volume/notes && sync")

    with ThreadPoolExecutor() as together:
        list(together.map(note, range(6)))
    wait_until_released(empty_engine, shared_volplug)
    assert run(empty_engine, "-v", "fresh:/volume", script="sort /volume/notes").split() == list("012345")
    empty_engine.docker("volume", "rm", "fresh")


@ON_OLDEST
def test_one_container_has_a_volume_at_two_places(empty_engine: Engine) -> None:
    create(empty_engine, "twice")
    places = ("-v", "twice:/here", "-v", "twice:/there")
    assert run(empty_engine, *places, script="echo seen >/here/file && cat /there/file") == "seen\n"
    empty_engine.docker("volume", "rm", "twice")


@ON_NEWEST
def test_a_full_volume_fills_only_itself(empty_engine: Engine) -> None:
    create(empty_engine, "full")
    fill = "dd if=/dev/zero of=/volume/file bs=1M count=32 2>&1; rm /volume/file; echo small >/volume/file"
    shown = run(empty_engine, "-v", "full:/volume", script=f"{fill} && sync && cat /volume/file")
    assert "dd: error writing '/volume/file': No space left on device\n" in shown
    assert shown.endswith("\nsmall\n")
    empty_engine.docker("volume", "rm", "full")


@ON_EACH
async def test_an_engine_finds_volumes_that_it_did_not_create(
    empty_engine: Engine, shared_volplug: Volplug
) -> None:
    """As an engine whose own data was lost, or a new one on this machine."""
    async with Dockerd(empty_engine.path(shared_volplug.socket)) as client:
        await client.ok("Create", Name="found", Opts={"size": "16MiB"})
    assert volumes(empty_engine) == ["found"]
    run(empty_engine, "-v", "found:/volume", script="echo kept >/volume/file")
    assert run(empty_engine, "-v", "found:/volume", script="cat /volume/file") == "kept\n"
    assert inspect(empty_engine, "volume", "found")["Driver"] == shared_volplug.driver
    empty_engine.docker("volume", "rm", "found")


@ON_EACH
def test_an_unnamed_volume_leaves_nothing(empty_engine: Engine, shared_volplug: Volplug) -> None:
    run(empty_engine, "--volume-driver=volplug", "-v", "/data", script="echo scratch >/data/file")
    assert volumes(empty_engine) == []
    assert [path.name for path in (shared_volplug.state_dir / "backends" / "loop").iterdir()] == [
        ".backend-id"
    ]


@ON_OLDEST
def test_a_read_only_mount_reads_and_does_not_write(empty_engine: Engine) -> None:
    create(empty_engine, "frozen")
    run(empty_engine, "-v", "frozen:/data", script="echo kept >/data/file")
    script = "cat /data/file; echo changed >/data/file; cat /data/file"
    done = empty_engine.docker("run", "--rm", "-v", "frozen:/data:ro", IMAGE, "sh", "-c", script)
    assert done.stdout == "kept\nkept\n"
    assert done.stderr == "sh: can't create /data/file: Read-only file system\n"
    empty_engine.docker("volume", "rm", "frozen")


@pytest.fixture(scope="module")
def site_image(shared_engine: Engine) -> str:
    """An image with a /site of one user, with content of another one."""
    script = (
        "mkdir -p /site/sub && echo page >/site/index && echo deep >/site/sub/file && ln -s index /site/link"
        " && chown -R 33:34 /site && chown 35:36 /site/sub/file && chmod 2750 /site && chmod 0640 /site/index"
    )
    shared_engine.docker("run", "--name=builder", IMAGE, "sh", "-c", script)
    shared_engine.docker("commit", "builder", "site:local")
    shared_engine.docker("rm", "builder")
    return "site:local"


_LIST = "cd /site && find . | sort | xargs stat -c '%n %u:%g %a' && cat index"
_SITE = """\
. 33:34 2750
./index 33:34 640
./link 33:34 777
./sub 33:34 755
./sub/file 35:36 644
page
"""


@ON_EACH
def test_a_fresh_volume_gets_the_content_of_the_image_once(empty_engine: Engine, site_image: str) -> None:
    create(empty_engine, "site")
    assert run(empty_engine, "-v", "site:/site", image=site_image, script=_LIST) == _SITE
    change = "rm -r /site/link /site/sub && echo mine >/site/index"
    run(empty_engine, "-v", "site:/site", image=site_image, script=change)
    shown = run(empty_engine, "-v", "site:/site", image=site_image, script=_LIST)
    assert shown == ". 33:34 2750\n./index 33:34 640\nmine\n"
    empty_engine.docker("volume", "rm", "site")


@ON_OLDEST
def test_a_volume_with_nocopy_stays_empty(empty_engine: Engine, site_image: str) -> None:
    create(empty_engine, "bare")
    shown = run(empty_engine, "-v", "bare:/site:nocopy", image=site_image, script="ls -A /site")
    assert shown == ""
    empty_engine.docker("volume", "rm", "bare")


@ON_EACH
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_docker_cp_into_and_out_of_a_container(
    empty_engine: Engine, shared_volplug: Volplug, state: str
) -> None:
    create(empty_engine, "copied")
    start(empty_engine, "user", "-v", "copied:/data")
    if state == "stopped":
        empty_engine.docker("stop", "user")
    sent, received = empty_engine.directory / "sent", empty_engine.directory / "received"
    sent.write_text("content\n")
    empty_engine.docker("cp", str(sent), "user:/data/file")
    empty_engine.docker("cp", "user:/data/file", str(received))
    assert received.read_text() == "content\n"
    if state == "running":
        assert execute(empty_engine, "user", "cat /data/file && echo more >/data/more") == "content\n"
    assert run(empty_engine, "-v", "copied:/data", script="cat /data/file") == "content\n"
    empty_engine.docker("rm", "-f", "user")
    wait_until_released(empty_engine, shared_volplug)
    empty_engine.docker("volume", "rm", "copied")


@ON_NEWEST
def test_the_cache_of_nginx_is_created_when_it_is_first_used(empty_engine: Engine) -> None:
    cached = empty_engine.import_image("nginx:local", {f"{_CACHE}/warm": b"from the image\n"})
    mount = ("--volume-driver=volplug", "-v", f"myCache:{_CACHE}")
    run(empty_engine, *mount, image=cached, script=f"echo page >{_CACHE}/index")
    shown = run(empty_engine, *mount, script=f"cd {_CACHE} && ls -A && cat index warm")
    assert shown == "index\nwarm\npage\nfrom the image\n"
    assert inspect(empty_engine, "volume", "myCache")["Status"]["size"] == "1GiB"
    empty_engine.docker("volume", "rm", "myCache")


@ON_NEWEST
@pytest.mark.parametrize("fs", ["ext4", "xfs", "btrfs"])
def test_every_filesystem_shows_an_empty_directory_with_the_owner_and_mode_asked_for(
    empty_engine: Engine, fs: str
) -> None:
    options = [f"--opt={each}" for each in (f"fs={fs}", "size=300MiB", "uid=999", "gid=998", "mode=0750")]
    empty_engine.docker("volume", "create", "-d", "volplug", *options, "shaped")
    shown = run(empty_engine, "-v", "shaped:/volume", script="stat -c '%u:%g %a' /volume && ls -A /volume")
    assert shown == "999:998 750\n"
    assert inspect(empty_engine, "volume", "shaped")["Status"]["fs"] == fs
    empty_engine.docker("volume", "rm", "shaped")


@ON_EACH
def test_a_volume_is_removed_once_no_container_refers_to_it(
    empty_engine: Engine, shared_volplug: Volplug
) -> None:
    create(empty_engine, "used")
    start(empty_engine, "user", "-v", "used:/data")
    number = inspect(empty_engine, "container", "user")["Id"]
    in_use = f"remove used: volume is in use - [{number}]"
    assert refusal(empty_engine, "volume", "rm", "used") == in_use
    empty_engine.docker("stop", "user")
    wait_until_released(empty_engine, shared_volplug)
    assert refusal(empty_engine, "volume", "rm", "used") == in_use, "docker start would need it again"
    empty_engine.docker("rm", "user")
    empty_engine.docker("volume", "rm", "used")
    assert volumes(empty_engine) == []


@ON_EACH
def test_what_ls_and_inspect_show(empty_engine: Engine, shared_volplug: Volplug) -> None:
    label = "--label=team=web"
    empty_engine.docker("volume", "create", "--driver=volplug", *SMALL, label, "shown")
    of_ours = f"--filter=driver={shared_volplug.driver}"
    listed = empty_engine.docker("volume", "ls", "--format={{json .}}", of_ours).stdout
    (line,) = [json.loads(text) for text in listed.splitlines()]
    assert (line["Name"], line["Driver"], line["Scope"]) == ("shown", shared_volplug.driver, "local")
    described = inspect(empty_engine, "volume", "shown")
    status, created_at = described.pop("Status"), described.pop("CreatedAt")
    assert described == {
        "Driver": shared_volplug.driver,
        "Labels": {"team": "web"},
        "Mountpoint": "",
        "Name": "shown",
        "Options": {"size": "16MiB"},
        "Scope": "local",
    }
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", created_at)
    assert re.fullmatch("loop-[0-9a-f]{12}", status.pop("id"))
    assert status.pop("image").endswith("/backends/loop/shown.img")
    assert status == {
        "backend": "loop",
        "driver": "loop",
        "fs": "pending",
        "mountCount": 0,
        "profile": "default",
        "size": "16MiB",
        "state": "available",
    }
    empty_engine.docker("volume", "rm", "shown")


@ON_EACH
def test_creating_a_volume_again_changes_nothing(empty_engine: Engine, shared_volplug: Volplug) -> None:
    """Docker does not ask: it knows the volume, and does not compare options."""
    create(empty_engine, "twice")
    run(empty_engine, "-v", "twice:/data", script="echo kept >/data/file")
    empty_engine.docker("volume", "create", "--driver=volplug", "--opt=size=32MiB", "twice")
    assert inspect(empty_engine, "volume", "twice")["Status"]["size"] == "16MiB"
    assert run(empty_engine, "-v", "twice:/data", script="cat /data/file") == "kept\n"
    taken = refusal(empty_engine, "volume", "create", "--driver=local", "twice")
    owner = f"driver '{shared_volplug.driver}' already has volume 'twice'"
    assert taken == f"create twice: {owner}: volume name must be unique"
    empty_engine.docker("volume", "rm", "twice")
