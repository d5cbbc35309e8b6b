"""The pages agree with each other, and their commands and words with the tests and the code."""

import json
import re

import pytest

from tests.pages import ROOT, commands, sections_with_commands


def test_every_promise_has_tests_by_its_number() -> None:
    text = (ROOT / "docs/safety.md").read_text()
    promises = re.findall(r"^\| ([PA]\d+) \|", text, re.MULTILINE)
    tests = re.findall(r"^- ([PA]\d+)\n  - `tests/", text, re.MULTILINE)
    assert len(promises) > 10
    assert promises == tests


def test_links_to_sections_lead_to_one() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.name}: {target}#{section}"
        for page in pages
        for target, section in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text())
        if section not in _anchors((page.parent / target if target else page).read_text())
    ]
    assert broken == []


def _anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs/README.md"
    listed = [
        index.parent / target
        for target in re.findall(r"^\| \[.+?\]\((.+?)\) \|", index.read_text(), re.MULTILINE)
    ]
    assert sorted(listed) == sorted({*index.parent.rglob("*.md")} - {index})


@pytest.mark.parametrize("page", ["cli", "operations", "from-rexray", "aws-swarm"])
def test_the_commands_of_each_section_are_asked_for_by_a_test(page: str) -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    unknown = [each for each in sections_with_commands(f"docs/{page}.md") if f'"{each}"' not in tests]
    assert unknown == []


def test_the_events_to_alert_on_are_those_of_the_log() -> None:
    text = (ROOT / "docs/operations.md").read_text().partition("\n## Watch\n")[2].partition("\n## ")[0]
    events = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)))
    package = "".join(path.read_text() for path in (ROOT / "volplug").rglob("*.py"))
    assert len(events) >= 5
    assert [event for event in events if f'"{event}"' not in package] == []


def test_variables_that_are_the_same_as_those_of_rexray_are_settings_of_the_plugin() -> None:
    text = (ROOT / "docs/from-rexray.md").read_text()
    named = "".join(re.findall(r"^\| (.+?) \| The same", text, re.MULTILINE))
    settable = {each["name"] for each in json.loads((ROOT / "config.json").read_text())["env"]}
    same = set(re.findall(r"`((?:EBS|REXRAY)_\w+)`", named))
    assert len(same) >= 6
    assert same <= settable


def test_both_ways_to_volplug_install_it_with_the_same_commands() -> None:
    """Those of docs/from-rexray.md are run by tests/engine/test_managed_upgrade.py."""
    ours = commands("docs/aws-swarm.md", "2. volplug on each node")[0]
    theirs = commands("docs/from-rexray.md", "Keep the driver's name")[0].replace("rexray/ebs", "volplug")
    assert theirs.endswith(ours)
