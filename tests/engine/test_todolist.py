"""examples/todolist works as its README describes: the database's data outlives its containers."""

import json

import pytest

from tests.engine.pairs import ON_NEWEST
from tests.engine.use import volumes, wait_until_released
from tests.lab.compose import COMPOSE_2, bookworm
from tests.lab.engine import Engine
from tests.lab.managed import Volplug
from tests.lab.programs import checked
from tests.lab.requirements import ENGINE
from tests.lab.todolist import TODOLIST, import_images

pytestmark = [
    *ENGINE,
    ON_NEWEST,
    pytest.mark.prepare(by=bookworm),
    pytest.mark.prepare(by=COMPOSE_2.tree),
    pytest.mark.timeout(600),  # a database starts twice
]

_README = (TODOLIST / "README.md").read_text().splitlines()
_COMMANDS = [line.strip() for line in _README if line.startswith("    ")]
_URL = "http://localhost:8080"


def test_the_commands_of_its_readme_work_as_written(empty_engine: Engine, shared_volplug: Volplug) -> None:
    images = import_images(empty_engine)

    def shell(command: str) -> str:
        return checked(COMPOSE_2.shell(empty_engine, TODOLIST, command, images)).stdout

    outputs = {}
    for command in _COMMANDS[:-1]:
        outputs[command] = shell(command)
        if command == "docker compose down":
            assert volumes(empty_engine) == ["todolist_todolist"]
            wait_until_released(empty_engine, shared_volplug)
    described = json.loads(outputs["docker volume inspect todolist_todolist"])[0]
    assert (described["Driver"], described["Status"]["size"]) == (shared_volplug.driver, "2GiB")
    todos = [{"id": 1, "text": "Buy milk & bread", "done": False}]
    todos += [{"id": 2, "text": "Water the plants", "done": False}]
    assert json.loads(outputs[f"curl {_URL}/todos"]) == todos

    shell(f"curl --request POST {_URL}/todos/1/finish")
    assert json.loads(shell(f"curl {_URL}/todos")) == [{**todos[0], "done": True}, todos[1]]
    page = shell(f"curl {_URL}/")
    assert '<span class="done">Buy milk &amp; bread</span>' in page
    assert '<span class="open">Water the plants</span>' in page

    assert _COMMANDS[-1] == "docker compose down --volumes"
    shell(_COMMANDS[-1])
    assert volumes(empty_engine) == []
