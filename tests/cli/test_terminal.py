"""What a person sees: commands as processes on a terminal of 80 and of 200 columns."""

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.volumes.world import World

pytestmark = pytest.mark.cli

_ROOT = Path(__file__).parents[2]
_DATA = Path(__file__).with_name("data")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_COMMANDS = (
    "volume ls",
    "volume ls --format wide",
    "volume takeover --dry-run elsewhere",
    "backend ls",
    "operation ls",
    "config show",
)


def _environment() -> dict[str, str]:
    """Return the environment of commands, without what says how wide the terminal of the tests is."""
    return {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}} | {
        "PYTHONPATH": str(_ROOT)
    }


class Screen:
    """A command on a terminal of its own."""

    def __init__(self, command: str, columns: int, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "volplug", *command.split()],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**_environment(), "TERM": "xterm", **environment},
            cwd="/",
        )
        os.close(theirs)
        self.text = ""

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _chunks(self) -> Iterator[str]:
        with contextlib.suppress(OSError):  # at the end of a terminal's process
            while chunk := os.read(self._ours, 65536):
                yield chunk.decode()

    async def shows(self, word: str) -> None:
        """Wait until a word is on the screen."""

        def read() -> None:
            for chunk in self._chunks():
                self.text += chunk
                if word in self.text:
                    return
            raise AssertionError(f"{word!r} did not appear: {self.text!r}")

        await asyncio.to_thread(read)

    async def ends(self) -> int:
        """Wait for the end, and return the exit code."""

        def read() -> int:
            self.text += "".join(self._chunks())
            return self.process.wait()

        return await asyncio.to_thread(read)

    @property
    def lines(self) -> list[str]:
        return _ESCAPE.sub("", self.text).replace("\r\n", "\n").splitlines()


async def _screen(command: str, columns: int, **environment: str) -> list[str]:
    with Screen(command, columns, **environment) as screen:
        assert await screen.ends() == 0
        return screen.lines


@pytest.mark.parametrize("columns", [80, 200])
async def test_tables_look_as_recorded(furnished: World, columns: int) -> None:
    """VOLPLUG_TEST_RECORD=1 writes the files anew."""
    shown = []
    screens = await asyncio.gather(*(_screen(command, columns) for command in _COMMANDS))
    for command, lines in zip(_COMMANDS, screens, strict=True):
        assert "wide" in command or max(map(len, lines)) <= columns
        shown += [f"$ volplug {command}", *lines, ""]
    text = re.sub(r"mem-\w{8}", "mem-00000000", "\n".join(shown))
    file = _DATA / f"tables-{columns}.txt"
    if os.environ.get("VOLPLUG_TEST_RECORD"):
        file.write_text(text)
    assert text == file.read_text()


async def test_the_page_shows_what_a_terminal_shows(furnished: World) -> None:
    page = (_ROOT / "docs/cli.md").read_text()
    (shown,) = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert shown.splitlines() == await _screen("volume ls", 80)


@pytest.mark.parametrize(
    ("environment", "is_coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
async def test_colours_are_for_terminals_that_want_them(
    furnished: World, environment: dict[str, str], is_coloured: bool
) -> None:
    with Screen("volume ls", 80, **environment) as screen:
        assert await screen.ends() == 0
        assert ("\x1b[31merror\x1b[0m" in screen.text) == is_coloured
        assert ("\x1b" in screen.text) == is_coloured


async def test_progress_is_shown_in_place_and_an_interrupt_leaves_the_operation(served: World) -> None:
    gate = served.driver.hold("create")
    with Screen("volume create db", 80, NO_COLOR="1") as screen:
        await screen.shows("create db: create")
        screen.process.send_signal(signal.SIGINT)
        assert await screen.ends() == 130
        (operation,) = served.node.operations.running
        told = "".join(screen.lines)
        assert f"volplug: interrupted, and operation {operation.operation_id} continues." in told
        assert f"volplug operation watch {operation.operation_id}" in told
    gate.opened.set()
    ended = await served.node.operations.wait(operation.operation_id, 10)
    assert ended.state == "succeeded"


async def test_an_interrupt_ends_a_stream_of_events(served: World) -> None:
    with Screen("events", 80) as screen:
        await served.create("first")
        stream = asyncio.ensure_future(screen.shows("volume created"))
        while not stream.done():  # until the stream is there, no event is in it
            await served.create(f"v{len(served.cloud.volumes)}")
            await asyncio.wait([stream], timeout=0.1)
        stream.result()
        screen.process.send_signal(signal.SIGINT)
        assert await screen.ends() == 130
        assert "Traceback" not in screen.text


async def test_a_reader_who_has_had_enough_is_no_error(furnished: World) -> None:
    command = f"{sys.executable} -m volplug events --no-stream | head -n 1"
    done = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


async def test_a_list_loads_nothing_that_starts_slowly(furnished: World) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "volplug", "volume", "ls"]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
    )
    assert "todolist" in done.stdout
    loaded = set(re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE))
    assert {"volplug.cli.main", "http.client"} <= loaded
    slow = (
        "aiohttp",
        "asyncio",
        "rich",
        "yaml",
        "structlog",
        "tarfile",
        "volplug.api.schemas",
        "volplug.config",
    )
    assert [name for name in sorted(loaded) if name.startswith(slow)] == []
