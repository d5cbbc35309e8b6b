"""The steps of the demo, in the order in which they are shown."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab import leftovers, loops
from tests.lab.engine import Engine
from tests.lab.hostengine import HostEngine
from tests.lab.plugin import VolplugProcess
from tests.lab.printing import Printer
from tests.lab.waiting import WaitTimeoutError, wait_until

IMAGE = "busybox:local"
VOLUME = "todolist"
CACHE = "myCache"
CACHE_PATH = "/data/nginx/cache"
WRITER = "volplug-demo-writer"
_NOTE = "buy milk"
_PROGRESS_TIMEOUT_S = 20.0

# Each number is on the disk (fsync) before it is printed, so a printed number must never be missing.
_WRITE_RECORDS = (
    "n=0; while :; do n=$((n+1)); echo $n >>/data/records && sync /data/records && echo $n || exit 1;"
    " usleep 20000; done"
)


@dataclass(frozen=True)
class Step:
    """One step of the demo: its headline and its function."""

    title: str
    play: "Callable[[Stage], None]"


class StepError(RuntimeError):
    """A check of the demo does not hold."""


@dataclass(frozen=True)
class Stage:
    """The engine and the volplug of the demo, and its output."""

    engine: Engine | HostEngine
    volplug: VolplugProcess
    show: Printer

    def docker(self, *args: str) -> str:
        """Show a docker command, run it and show its output; CommandError if it fails."""
        answer = self.hidden_answer(*args)
        self.show.answer(answer)
        return answer

    def hidden_answer(self, *args: str) -> str:
        """Show a docker command and run it, without its output."""
        self.show.command(["docker", *args])
        return self.hidden(*args)

    def hidden(self, *args: str) -> str:
        """Run a docker command without showing it."""
        return self.engine.docker(*args).stdout

    def check(self, holds: bool, what: str) -> None:
        """Show that ``what`` holds, or end the demo."""
        if not holds:
            raise StepError(f"this should hold and does not: {what}")
        self.show.check(what)


def start(stage: Stage) -> None:
    version = stage.hidden("version", "--format", "{{.Server.Version}}").strip()
    kind = "this machine's own" if isinstance(stage.engine, HostEngine) else "private to this demo"
    stage.show.answer(f"Docker Engine {version}, {kind}")
    stage.engine.import_busybox(IMAGE)
    taken = {VOLUME, CACHE} & set(stage.hidden("volume", "ls", "--quiet").split())
    if taken:
        raise StepError(
            f"this engine has volumes named {', '.join(sorted(taken))} already; they are not touched"
        )
    _start_volplug(stage)
    stage.show.check(f"listens on {stage.volplug.socket}")


def create(stage: Stage) -> None:
    stage.docker("volume", "create", "-d", "volplug", "-o", "size=1GiB", VOLUME)
    stage.check(VOLUME in stage.hidden("volume", "ls", "--quiet").split(), f"Docker knows {VOLUME}")


def write(stage: Stage) -> None:
    script = f"echo {_NOTE} >/data/todo && df -m /data"
    answer = _run(stage, "--volume-driver=volplug", "-v", f"{VOLUME}:/data", script=script)
    size_mib = int(answer.split()[-5])
    # A filesystem uses some of the device itself.
    stage.check(800 < size_mib <= 1024, f"the volume has room for {size_mib} MiB: 1 GiB less the filesystem")


def read(stage: Stage) -> None:
    answer = _run(stage, "-v", f"{VOLUME}:/data", script="cat /data/todo")
    stage.check(answer == f"{_NOTE}\n", "what the first container wrote is there")


def inspect(stage: Stage) -> None:
    listed = stage.docker("volume", "ls")
    described = json.loads(stage.docker("volume", "inspect", VOLUME))[0]
    stage.check(VOLUME in listed and "volplug" in listed, "volume ls shows it")
    stage.check(described["Driver"] == "volplug", "its driver is volplug")


def survive_kill(stage: Stage) -> None:
    stage.docker("run", "-d", "--name", WRITER, "-v", f"{VOLUME}:/data", IMAGE, "sh", "-c", _WRITE_RECORDS)
    _await_records(stage, 10)
    stage.show.command(["kill", "-9", str(stage.volplug.pid)])
    stage.volplug.kill()
    _await_records(stage, 10, "while volplug is dead")
    _start_volplug(stage)
    _await_records(stage, 10, "after volplug is back")
    last = _run(stage, "-v", f"{VOLUME}:/data", script="tail -n 1 /data/records").strip()
    stage.check(last.isdecimal(), f"a new container sees the records too, up to {last}")


def no_record_lost(stage: Stage) -> None:
    printed = _last_record(stage)
    stage.docker("rm", "-f", WRITER)
    written = stage.hidden_answer(
        "run", "--rm", "-v", f"{VOLUME}:/data", IMAGE, "cat", "/data/records"
    ).split()
    stage.show.answer(f"{' '.join(written[:3])} ... {' '.join(written[-3:])}")
    last = len(written)
    stage.check(written == [str(n) for n in range(1, last + 1)], f"the records are 1 to {last} without a gap")
    stage.check(last >= printed, f"every record reported as written is there (the last reported: {printed})")


def nginx_cache(stage: Stage) -> None:
    mount = ("--volume-driver=volplug", "-v", f"{CACHE}:{CACHE_PATH}")
    _run(stage, *mount, script=f"echo page >{CACHE_PATH}/index && ls -l {CACHE_PATH}")
    answer = _run(stage, *mount, script=f"ls -A {CACHE_PATH} && cat {CACHE_PATH}/index")
    stage.check(answer == "index\npage\n", "the next container finds the cache, and nothing else there")


def remove(stage: Stage) -> None:
    stage.docker("volume", "rm", VOLUME, CACHE)
    listed = stage.docker("volume", "ls", "--quiet", "--filter", "driver=volplug").split()
    stage.check(not {VOLUME, CACHE} & set(listed), "Docker has forgotten them")
    try:
        wait_until(lambda: not _held(stage), 10, "volplug has released the volumes")
    except WaitTimeoutError:
        raise StepError(f"volplug has not released {', '.join(_held(stage))}") from None
    stage.check(True, "neither is mounted or attached")


def stop(stage: Stage) -> None:
    stage.show.command(["kill", str(stage.volplug.pid)])
    code = stage.volplug.stop()
    stage.check(code == 0, "it ends with exit code 0")
    stage.check(not stage.engine.path(stage.volplug.socket).exists(), "and removes its socket")


STEPS = (
    Step("A Docker Engine, and volplug as a service without any configuration", start),
    Step("Create a volume of 1 GiB", create),
    Step("A container writes to it", write),
    Step("A second container reads it back", read),
    Step("What Docker shows of it", inspect),
    Step("volplug is killed under a container that writes, and started again", survive_kill),
    Step("Stop the writer, and check for lost records", no_record_lost),
    Step("A cache for nginx: named in docker run alone, made when first used", nginx_cache),
    Step("Remove both volumes", remove),
    Step("Stop volplug", stop),
)


def _run(stage: Stage, *options: str, script: str) -> str:
    return stage.docker("run", "--rm", *options, IMAGE, "sh", "-c", script)


def _start_volplug(stage: Stage) -> None:
    stage.show.command(["volplug", "serve"], background=True)
    stage.volplug.start()


def _last_record(stage: Stage) -> int:
    """The last record that the writer reports as written."""
    output = stage.hidden("logs", "--tail", "1", WRITER).strip()
    return int(output) if output else 0


def _await_records(stage: Stage, count: int, when: str = "") -> None:
    """Wait until the writer has written ``count`` more records, and show that; an error if it does not."""
    first = _last_record(stage)

    def wrote() -> bool:
        state = stage.hidden("inspect", "--format", "{{.State.Running}}", WRITER).strip()
        if state != "true":
            raise StepError(f"the writer stopped: {stage.hidden('logs', '--tail', '5', WRITER)}")
        return _last_record(stage) >= first + count

    try:
        wait_until(wrote, _PROGRESS_TIMEOUT_S, "the writer continues")
    except WaitTimeoutError as error:
        raise StepError(f"the writer hangs after record {first}: {error}") from None
    stage.show.check(
        f"the writer continues{f' {when}' if when else ''}: record {first}, then {_last_record(stage)}"
    )


def _held(stage: Stage) -> list[str]:
    state = stage.volplug.state_dir
    mounts = stage.engine.path("/proc/1/mountinfo")
    return leftovers.mounted_below(state, mounts) + [device.name for device in loops.attached_below(state)]
