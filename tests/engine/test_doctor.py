"""The checks of `volplug doctor` on a real engine: each finds its fault, and all is well without one."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.api.serving import unix_client
from tests.dockerd import Dockerd
from tests.engine.pairs import MANAGED, ON_EACH
from tests.engine.use import IMAGE, create, start
from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug, Volplug
from tests.lab.requirements import ENGINE
from volplug.api.client import ControlClient, Endpoint
from volplug.config import Settings
from volplug.doctor.docker_sdk import EnginePlace
from volplug.doctor.engine import check_engine_at
from volplug.doctor.examination import Examination
from volplug.doctor.managed_plugin import read_managed_settings
from volplug.findings import Finding, Level

pytestmark = ENGINE

_VOLUMES = {"volume-driver", "volume-references", "mount-counts"}


def _place(engine: Engine) -> EnginePlace:
    run = engine.path("/run")
    return EnginePlace(f"unix://{run}/docker.sock", run)


async def _worse_than_green(
    engine: Engine, volplug: Volplug, place: EnginePlace | None = None, settings: Settings | None = None
) -> Mapping[str, Finding]:
    """Return the findings that are not green, by check; the others have to be there as well."""
    daemon = ControlClient(Endpoint((str(volplug.state_dir / "control.sock"),)))
    examination = Examination(settings or Settings(), {}, daemon, is_managed=False)
    findings = await check_engine_at(place or _place(engine), examination)
    assert {finding.check for finding in findings} >= _VOLUMES
    assert all(finding.remedy for finding in findings if finding.level is not Level.GREEN)
    return {finding.check: finding for finding in findings if finding.level is not Level.GREEN}


@ON_EACH
async def test_all_is_well_while_containers_use_volumes(
    empty_engine: Engine, shared_volplug: Volplug
) -> None:
    for name in ("db", "idle"):
        create(empty_engine, name)
    start(empty_engine, "user", "-v", "db:/one", "-v", "db:/two", "-v", "own:/own")
    empty_engine.docker("run", "--name=ended", "-v", "idle:/data", IMAGE, "true")
    assert await _worse_than_green(empty_engine, shared_volplug) == {}
    empty_engine.docker("rm", "--force", "user", "ended")
    empty_engine.docker("volume", "rm", "db", "idle", "own")


@ON_EACH
async def test_a_local_volume_that_hides_one_of_volplug(
    empty_engine: Engine, shared_volplug: Volplug
) -> None:
    empty_engine.docker("volume", "create", "db")
    start(empty_engine, "user", "-v", "db:/data")
    body = {"name": "db", "size_bytes": 16 << 20}
    async with unix_client(shared_volplug.state_dir / "control.sock") as api:
        await api.done("POST", "/v1/volumes", body)
    found = await _worse_than_green(empty_engine, shared_volplug)
    assert list(found) == ["volume-driver"]
    finding = found["volume-driver"]
    assert (finding.level, finding.subject) == (Level.RED, "db")
    assert "own driver local" in finding.message
    remove_container, _, rest = finding.remedy.partition("; ")
    assert remove_container == "docker rm --force user"
    for command in (remove_container, rest.partition("; then ")[2]):
        empty_engine.run(["sh", "-c", command], check=True)
    assert await _worse_than_green(empty_engine, shared_volplug) == {}
    # Once more, it deletes nothing: volplug's has the name now.
    assert empty_engine.run(["sh", "-c", rest.partition("; then ")[2]]).returncode == 1
    empty_engine.docker("volume", "rm", "db")


@ON_EACH
async def test_a_container_whose_volume_is_gone(empty_engine: Engine, shared_volplug: Volplug) -> None:
    create(empty_engine, "db")
    empty_engine.docker("create", "--name=user", "-v", "db:/data", IMAGE, "true")
    async with unix_client(shared_volplug.state_dir / "control.sock") as api:
        await api.done("DELETE", "/v1/volumes/db")
    found = await _worse_than_green(empty_engine, shared_volplug)
    assert list(found) == ["volume-references"]
    assert (found["volume-references"].subject, found["volume-references"].level) == ("db", Level.YELLOW)
    assert "containers that use it: user" in found["volume-references"].message
    command = found["volume-references"].remedy.partition("if it is not needed: ")[2]
    empty_engine.run(["sh", "-c", command], check=True)
    assert await _worse_than_green(empty_engine, shared_volplug) == {}


@ON_EACH
async def test_a_mount_that_docker_does_not_have(empty_engine: Engine, shared_volplug: Volplug) -> None:
    create(empty_engine, "db")
    start(empty_engine, "user", "-v", "db:/data")
    async with Dockerd(empty_engine.path(shared_volplug.socket)) as stray:
        await stray.ok("Mount", Name="db", ID="stray")
        found = await _worse_than_green(empty_engine, shared_volplug)
        await stray.ok("Unmount", Name="db", ID="stray")
    assert list(found) == ["mount-counts"]
    finding = found["mount-counts"]
    assert (finding.level, finding.subject) == (Level.YELLOW, "db")
    assert finding.message == "volplug counts 2 mounts, and Docker has 1, of user"
    restart = "docker plugin disable" if isinstance(shared_volplug, ManagedVolplug) else "systemctl restart"
    assert restart in finding.remedy
    empty_engine.docker("rm", "--force", "user")
    empty_engine.docker("volume", "rm", "db")


@MANAGED
async def test_a_disabled_plugin(empty_engine: Engine, shared_volplug: ManagedVolplug) -> None:
    place, examination = _place(empty_engine), Examination(Settings(), {}, None, is_managed=True)

    async def judged() -> Sequence[Finding]:
        findings = await check_engine_at(place, examination)
        return [finding for finding in findings if finding.check == "managed-plugin"]

    shared_volplug.stop()
    (disabled,) = await judged()
    empty_engine.run(["sh", "-c", disabled.remedy], check=True)
    shared_volplug.start()
    assert (disabled.level, disabled.subject) == (Level.RED, "volplug:latest")
    assert [finding.level for finding in await judged()] == [Level.GREEN]


@MANAGED
async def test_a_service_with_the_name_of_the_plugin(
    empty_engine: Engine, shared_volplug: ManagedVolplug, tmp_path: Path
) -> None:
    # Elsewhere, because Docker would wait for what nobody listens on.
    socket = tmp_path / "docker/plugins/volplug.sock"
    socket.parent.mkdir(parents=True)
    socket.touch()
    place = EnginePlace(_place(empty_engine).address, tmp_path)
    found = await _worse_than_green(empty_engine, shared_volplug, place)
    assert list(found) == ["managed-plugin"]
    assert "a service has its name, too: /run/docker/plugins/volplug.sock" in found["managed-plugin"].message


@MANAGED
async def test_the_settings_of_the_plugin_are_read_with_paths_of_the_host(
    empty_engine: Engine, shared_volplug: ManagedVolplug
) -> None:
    read = await read_managed_settings(_place(empty_engine))
    assert read is not None
    assert read.plugin == shared_volplug.driver
    assert read.flags["state_dir"] == str(shared_volplug.host_dir / "volplug")
    assert read.flags["mount_root"] == str(shared_volplug.mount_root)
    assert empty_engine.path(read.flags["socket"]).samefile(empty_engine.path(shared_volplug.socket))
    assert read.environment["VOLPLUG_DEFAULT_FS"] == ""


@MANAGED
def test_the_plugin_reaches_the_engine_and_sees_none_of_the_hosts_later_mounts_in_run(
    empty_engine: Engine, shared_volplug: ManagedVolplug
) -> None:
    # As systemd has it; otherwise mounts spread nowhere.
    empty_engine.run(["mount", "--make-shared", "/run"], check=True)
    shared_volplug.restart()
    empty_engine.run(["mkdir", "/run/later"], check=True)
    empty_engine.run(["mount", "-t", "tmpfs", "tmpfs", "/run/later"], check=True)
    program = (
        "from volplug.doctor.docker_sdk import DockerSdk, EnginePlace; place = EnginePlace.found(); "
        "print(place.address, DockerSdk(place.address).facts().is_docker); "
        "print('/run/later' in open('/proc/self/mountinfo').read())"
    )
    inside = [
        "nsenter",
        f"--target={shared_volplug.pid}",
        "--mount",
        "--pid",
        "/opt/volplug/bin/python",
        "-c",
        program,
    ]
    shown = subprocess.run(inside, check=True, capture_output=True, text=True).stdout
    empty_engine.run(["umount", "/run/later"], check=True)
    assert shown.splitlines() == ["unix:///host/run/docker.sock True", "False"]
