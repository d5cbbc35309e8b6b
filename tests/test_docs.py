"""The documents agree with the code, the tests and the settings."""

import ast
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.drivers.ebs.scripted import described
from tests.handlers.test_plugin import FULL
from tests.lab.parts import PARTS
from volplug.config import TABLES, Settings, default_text
from volplug.drivers.ebs.volumes import DETAILS, read_volume
from volplug.handlers.plugin import status_of

ROOT = Path(__file__).parents[1]


def test_every_setting_is_in_the_configuration_page_and_nothing_else() -> None:
    documented = set(
        re.findall(r"^\| `VOLPLUG_(\w+)`", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE)
    )
    assert documented == {name.upper() for name in Settings.model_fields if name not in TABLES}


def test_every_key_of_a_status_is_in_the_page_on_inspect_and_nothing_else() -> None:
    table = (ROOT / "docs/inspect.md").read_text().split("\n## ")[0]
    documented = {
        key
        for keys in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", keys)
    }
    ebs = dict(read_volume(described("v", **dict.fromkeys(DETAILS, "known")), "ebs").volume.details)
    core = status_of(replace(FULL, details=(), detail="known"))
    assert documented == {*core, *ebs, "image", "dataset"}
    assert not core.keys() & {*ebs, "image", "dataset"}


def test_the_configuration_page_and_help_have_the_same_meanings_and_defaults() -> None:
    rows = re.findall(
        r"^\| `VOLPLUG_(\w+)` \| (.*?) \| (.*) \|$",
        (ROOT / "docs/configuration.md").read_text(),
        re.MULTILINE,
    )
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", "|".join(row)).split("|") for row in rows]
    assert {name.lower(): (default, meaning) for name, default, meaning in plain} == {
        name: (default_text(name), about.description)
        for name, about in Settings.model_fields.items()
        if name not in TABLES
    }


def test_every_test_that_a_promise_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/safety.md").read_text())
    assert len(named) > 10
    missing = [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert missing == []


def test_relative_links_lead_somewhere() -> None:
    broken = [
        f"{page.name}: {target}"
        for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"))
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_module_of_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    sections = re.split(r"^#{2,3} (.*)$", text, flags=re.MULTILINE)[1:]
    named = {
        heading.strip("`/"): set(re.findall(r"`(\w+\.py)`", body.split("\n## ")[0]))
        for heading, body in zip(sections[::2], sections[1::2], strict=True)
        if heading.startswith("`")
    }
    rooms: dict[str, set[str]] = {}
    for path in (ROOT / "volplug").rglob("*.py"):
        if path.name != "__init__.py":
            room = path.parent.relative_to(ROOT / "volplug").as_posix().strip(".")
            rooms.setdefault(room, set()).add(path.name)
    assert named == rooms


def test_vague_subjects_are_avoided() -> None:
    """CONTRIBUTING.md quotes them as what to avoid."""
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text()
        for path in (
            *(ROOT / "volplug").rglob("*.py"),
            *(ROOT / "docs").rglob("*.md"),
            ROOT / "README.md",
            ROOT / "CONTRIBUTING.md",
        )
    }
    found = [
        f"{name}: {match.group()}"
        for name, text in texts.items()
        for match in re.finditer(r'(?<!")\b(whoever|nobody|somebody|anybody)\b(?!")', text, re.IGNORECASE)
    ]
    assert found == []


def test_every_class_name_has_one_meaning_in_the_package() -> None:
    names = Counter(
        node.name
        for path in (ROOT / "volplug").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, number in names.items() if number > 1] == []


def test_the_budgets_of_the_tests_are_those_that_a_run_shows() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    written = re.findall(r"^\| ([a-z ]+) \| ([\d.]+) \|", text, re.MULTILINE)
    assert {name: float(budget) for name, budget in written if name != "to come"} == {
        part.name: part.budget_min for part in PARTS
    }
    assert sum(float(budget) for _, budget in written) == 42
