"""volplug ends and starts again under running containers."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engine.pairs import AS_SERVICE
from tests.engine.use import IMAGE, create, inspect, mounted, refusal, run, start, wait_until_released
from tests.lab import checker
from tests.lab.engine import Engine
from tests.lab.plugin import VolplugProcess
from tests.lab.requirements import ENGINE
from tests.lab.waiting import wait_until

pytestmark = [*ENGINE, AS_SERVICE]


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_container_continues_without_volplug_and_with_it_again(
    empty_engine: Engine, shared_volplug: VolplugProcess, end: str
) -> None:
    create(empty_engine, "db", "--opt=size=64MiB")
    records = checker.start(empty_engine, "db")
    getattr(shared_volplug, end)()
    records.await_progress()
    shared_volplug.start()
    records.await_progress()
    records.verify()
    # The grace period is over: volplug may run a trial release of the writer's mount of before its restart.
    wait_until(lambda: len(mounted(empty_engine, shared_volplug)) == 1, 20, "the volume is mounted")
    records.await_progress()
    records.stop()
    wait_until_released(empty_engine, shared_volplug)
    records.verify()
    empty_engine.docker("volume", "rm", "db")


def test_a_container_that_is_started_while_volplug_restarts_waits_for_it(
    empty_engine: Engine, shared_volplug: VolplugProcess
) -> None:
    create(empty_engine, "db")
    shared_volplug.kill()
    tries = empty_engine.log_text.count("Unable to connect to plugin")
    with ThreadPoolExecutor() as together:
        waiting = together.submit(run, empty_engine, "-v", "db:/volume", script="echo late")
        wait_until(
            lambda: empty_engine.log_text.count("Unable to connect to plugin") > tries, 10, "Docker tries"
        )
        shared_volplug.start()
        assert waiting.result() == "late\n"
    empty_engine.docker("volume", "rm", "db")


def test_without_volplug_no_container_starts_nothing_is_forgotten_and_ended_containers_keep_no_volume(
    empty_engine: Engine, shared_volplug: VolplugProcess
) -> None:
    """Docker retries for 15 s; then it sends no Unmount for ended containers, and never retries it."""
    create(empty_engine, "db", "--label=team=web")
    run(empty_engine, "-v", "db:/volume", script="echo kept >/volume/file")
    for name in ("stopped", "removed", "used-again"):
        create(empty_engine, name)
        start(empty_engine, name, "-v", f"{name}:/volume")
    shared_volplug.kill()
    with ThreadPoolExecutor() as together:
        refused = together.submit(refusal, empty_engine, "run", "--rm", "-v", "db:/volume", IMAGE, "true")
        for command in (("stop", "stopped"), ("rm", "-f", "removed"), ("rm", "-f", "used-again")):
            together.submit(empty_engine.docker, *command)
    assert "dial unix /run/docker/plugins/volplug.sock: connect: connection refused" in refused.result()
    shared_volplug.start({"VOLPLUG_MOUNT_GRACE_S": "1"})  # so that counts of just before are soon tried

    assert run(empty_engine, "-v", "db:/volume", script="cat /volume/file") == "kept\n"
    assert inspect(empty_engine, "volume", "db")["Labels"] == {"team": "web"}
    empty_engine.docker("volume", "rm", "removed")
    run(empty_engine, "-v", "used-again:/volume")
    empty_engine.docker("start", "stopped")
    empty_engine.docker("stop", "stopped")
    wait_until_released(empty_engine, shared_volplug)
    empty_engine.docker("rm", "stopped")
    empty_engine.docker("volume", "rm", "db", "stopped", "used-again")
    shared_volplug.restart()
