"""The notes of creations: durable before a creation, harmless if they are lost."""

import json
from pathlib import Path

import pytest

from volplug.drivers.cinder.notes import CreationNote, CreationNotes
from volplug.steps import WorldStep


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backends" / "cloud.creations.json"


def notes_in(path: Path, steps: list[WorldStep] | None = None) -> CreationNotes:
    return CreationNotes(path, (steps if steps is not None else []).append)


async def test_a_token_is_kept_across_restarts_until_it_is_dropped(path: Path) -> None:
    steps: list[WorldStep] = []
    token = await notes_in(path, steps).begin("db")
    assert steps == [WorldStep.CREATION_NOTED]
    assert await notes_in(path).find("db") == CreationNote(token)
    assert await notes_in(path).begin("db") == token
    await notes_in(path).succeeded("db", "vol")
    assert await notes_in(path).find("db") == CreationNote(token, "vol")
    assert await notes_in(path).begin("db") == token
    assert await notes_in(path).find("db") == CreationNote(token)
    await notes_in(path).drop("db")
    assert await notes_in(path).find("db") is None


async def test_names_have_tokens_of_their_own(path: Path) -> None:
    notes = notes_in(path)
    assert await notes.begin("a") != await notes.begin("b")
    await notes.drop("a")
    assert await notes.find("b") is not None


async def test_a_note_is_dropped_only_for_its_volume(path: Path) -> None:
    notes = notes_in(path)
    await notes.begin("db")
    await notes.succeeded("db", "vol")
    await notes.drop("db", "other")
    assert await notes.find("db") is not None
    await notes.drop("db", "vol")
    assert await notes.find("db") is None
    await notes.drop("db", "vol")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"db": 1}', '{"db": {}}', "\0"])
async def test_a_damaged_file_is_as_none(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    notes = notes_in(path)
    assert await notes.find("db") is None
    await notes.begin("db")
    assert set(json.loads(path.read_text())) == {"db"}
