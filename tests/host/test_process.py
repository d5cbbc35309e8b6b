import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.lab.waiting import wait_until
from volplug.errors import CommandFailed, HostError, Unsupported
from volplug.host import process
from volplug.host.threads import Pool

POOL = Pool("test", 64)


async def test_output_and_exit_code_of_a_program_are_returned() -> None:
    finished = await process.run(POOL, ["sh", "-c", "echo out; echo complaint >&2; exit 3"], ok=(0, 3))
    assert (finished.exit_code, finished.stdout, finished.stderr) == (3, "out\n", "complaint\n")


async def test_an_exit_code_that_is_not_ok_raises_with_what_the_program_said() -> None:
    with pytest.raises(CommandFailed) as caught:
        await process.run(POOL, ["sh", "-c", "echo no such thing >&2; exit 4"])
    assert caught.value.exit_code == 4
    assert str(caught.value) == "sh ended with exit code 4: no such thing."


async def test_what_a_silent_program_printed_to_stdout_is_its_complaint() -> None:
    with pytest.raises(CommandFailed, match="only here"):
        await process.run(POOL, ["sh", "-c", "echo only here; exit 1"])


async def test_death_by_a_signal_is_a_negative_exit_code() -> None:
    with pytest.raises(CommandFailed) as caught:
        await process.run(POOL, ["sh", "-c", "kill -KILL $$"])
    assert caught.value.exit_code == -signal.SIGKILL


async def test_a_missing_program_is_named_and_can_be_installed() -> None:
    with pytest.raises(Unsupported, match=r"program mkfs\.nothing is not installed"):
        await process.run(POOL, ["mkfs.nothing", "/dev/null"])


async def test_a_program_that_may_not_be_run_is_a_host_error(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(HostError, match="cannot be started: Permission denied"):
        await process.run(POOL, [str(script)])


async def test_of_endless_output_the_start_and_the_end_are_kept() -> None:
    finished = await process.run(POOL, ["sh", "-c", "echo first; yes middle | head -c 1000000; echo last"])
    assert finished.stdout.startswith("first\n")
    assert finished.stdout.endswith("last\n")
    assert len(finished.stdout) < 5000


async def test_a_program_gets_an_empty_input_a_plain_locale_and_a_session_of_its_own() -> None:
    script = (
        'cat; env | grep -v -e "^PWD=" -e "^_=" -e "^SHLVL=" | cut -d= -f1 | sort | tr "\\n" " "; echo; pwd; '
    )
    script += "echo $$; cut -d' ' -f6 /proc/$$/stat"
    names, directory, pid, session = (await process.run(POOL, ["sh", "-c", script])).stdout.splitlines()
    assert (names.split(), directory) == (["LC_ALL", "PATH"], "/")
    assert pid == session


async def test_arguments_are_not_read_by_a_shell() -> None:
    finished = await process.run(POOL, [sys.executable, "-c", "import sys; print(sys.argv[1])", "$(id); *"])
    assert finished.stdout == "$(id); *\n"


def test_system_directories_are_searched_after_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/first:relative::/usr/bin")
    parts = process.search_path().split(":")
    assert parts[:2] == ["/first", "/usr/bin"]
    assert "/usr/sbin" in parts
    assert "relative" not in parts


async def start_recorder(
    tmp_path: Path, stop_signal: signal.Signals | None
) -> tuple[asyncio.Task[object], Path]:
    """Run a shell that notes a SIGTERM, and ends once the file `go` exists."""
    script = f"""
    cd {tmp_path}; trap 'touch asked; exit 0' TERM; touch started
    until test -e go; do sleep 0.01; done; touch finished
    """
    task: asyncio.Task[object] = asyncio.create_task(
        process.run(POOL, ["sh", "-c", script], stop_signal=stop_signal)
    )
    await asyncio.to_thread(wait_until, (tmp_path / "started").exists, 20, "the program runs")
    return task, tmp_path


async def test_a_cancelled_await_ends_only_after_the_program_which_is_not_touched(tmp_path: Path) -> None:
    task, notes = await start_recorder(tmp_path, stop_signal=None)
    task.cancel()
    await asyncio.wait({task}, timeout=0.05)
    task.cancel()
    await asyncio.wait({task}, timeout=0.05)
    assert not task.done()
    (notes / "go").touch()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (notes / "finished").exists()
    assert not (notes / "asked").exists()


async def test_a_program_that_stops_in_good_order_is_asked_to_and_waited_for(tmp_path: Path) -> None:
    task, notes = await start_recorder(tmp_path, stop_signal=signal.SIGTERM)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (notes / "asked").exists()
    assert process.running_programs() == ()


async def test_a_shutdown_waits_for_programs_and_names_those_that_still_run(tmp_path: Path) -> None:
    task, notes = await start_recorder(tmp_path, stop_signal=None)
    assert process.running_programs() == ("sh",)
    assert await process.wait_for_programs(timeout_s=0.01) == ("sh",)
    (notes / "go").touch()
    assert await process.wait_for_programs(timeout_s=20) == ()
    await task


def test_a_program_outlives_the_event_loop_that_started_it(tmp_path: Path) -> None:
    async def start_and_leave() -> None:
        await start_recorder(tmp_path, stop_signal=None)
        (tmp_path / "go").touch()

    asyncio.run(start_and_leave())
    assert (tmp_path / "finished").exists()


async def test_reaping_orphans_leaves_the_exit_codes_of_waited_programs_alone() -> None:
    runs = [asyncio.create_task(process.run(POOL, ["sh", "-c", "exit 7"], ok=(7,))) for _ in range(10)]
    while not all(task.done() for task in runs):
        process.reap_orphans()
        await asyncio.sleep(0)
    assert [task.result().exit_code for task in runs] == [7] * 10


def test_reaping_collects_processes_that_nobody_waits_for() -> None:
    orphan = os.posix_spawn("/bin/true", ["true"], {})
    wait_until(lambda: process.reap_orphans() > 0, 20, "the orphan is reaped")
    with pytest.raises(ProcessLookupError):
        os.kill(orphan, 0)


async def test_an_exit_code_taken_by_somebody_else_is_never_success() -> None:
    """Popen.wait would report 0 here."""
    task = asyncio.create_task(process.run(POOL, ["sh", "-c", "exit 1"]))
    while not task.done():
        steal_exit_code()
        await asyncio.sleep(0)
    error = task.exception()
    assert isinstance(error, HostError)
    assert "was lost" in str(error) or "exit code 1" in str(error)


def steal_exit_code() -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


async def test_all_output_is_kept_up_to_a_limit_and_more_is_an_error() -> None:
    many = ["sh", "-c", "yes line | head -c 100000"]
    finished = await process.run(POOL, many, streams=process.ProgramStreams(output_bytes=100_000))
    assert len(finished.stdout) == 100_000
    with pytest.raises(HostError, match="printed more than 50000 bytes"):
        await process.run(POOL, many, streams=process.ProgramStreams(output_bytes=50_000))


async def test_a_program_reads_and_writes_the_descriptors_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("stream")
    with (tmp_path / "in").open() as source, (tmp_path / "out").open("w") as target:
        streams = process.ProgramStreams(stdin=source.fileno(), stdout=target.fileno())
        finished = await process.run(POOL, ["cat"], streams=streams)
    assert (finished.stdout, (tmp_path / "out").read_text()) == ("", "stream")
