"""The page of the driver names what there is, with the values that count."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.operator import Operator
from tests.pages import ROOT
from volplug.drivers.ebs import options
from volplug.drivers.ebs.settings import VARIABLES, EbsSettings

PAGE = (ROOT / "docs" / "drivers" / "ebs.md").read_text()
FOR_TESTS = {"sys_root", "dev_root", "imds_endpoint", "nvme_model", "proof_s", "poll_s"}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> set[str]:
    """The words in code that begin the rows of a section's tables, without what stands in brackets."""
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([^`]+)`", re.sub(r"\(.*?\)", "", cell))}


def test_every_option_is_on_the_page_and_no_other() -> None:
    assert first_cells(section("Options")) == {*options.OPTIONS, "size", "profile"}


def test_every_other_word_for_an_option_on_the_page_is_understood() -> None:
    named = re.findall(r"\(`(.+?)`\)", "\n".join(re.findall(r"^\| `.*", section("Options"), re.MULTILINE)))
    words = {word.lower() for cell in named for word in cell.split("`, `")}
    assert len(words) >= 4
    assert words <= options.OPTION_ALIASES.keys()


def test_every_setting_is_on_the_page_and_no_other() -> None:
    assert first_cells(section("Settings")) == EbsSettings.model_fields.keys() - FOR_TESTS
    assert all(f"`{name}`" in section("Settings") for name in FOR_TESTS)


def test_every_variable_is_on_the_page() -> None:
    named = set(re.findall(r"`((?:AWS|EBS)_\w+)`", section("Settings")))
    assert named == {name for name in VARIABLES if not name.endswith("_FILE")}


def test_the_ranges_on_the_page_are_those_that_are_checked() -> None:
    rows = re.findall(
        r"^\| ([\w, ]+) \| (\d+) to (\d+) \| (.*?) ?\| (.*?) ?\|$", section("Options"), re.MULTILINE
    )
    shown = {kind: row[1:] for row in rows for kind in row[0].split(", ")}
    assert shown.keys() == options.TYPES.keys()
    for kind, (least, most, iops, throughput) in shown.items():
        known = options.TYPES[kind]
        assert (int(least), int(most)) == known.sizes_gib
        numbers = [int(number) for number in re.findall(r"\d+", iops)]
        assert numbers == ([*known.iops, known.iops_per_gib] if known.iops else [])
        speeds = tuple(int(number) for number in re.findall(r"\d+", throughput))
        assert speeds == (known.throughput_mib or ())


def test_the_policy_on_the_page_is_a_policy() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", section("Permissions"), re.DOTALL)
    actions = {
        action
        for statement in json.loads(text)["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    unconditional = [each["Action"] for each in json.loads(text)["Statement"] if "Condition" not in each]
    assert [action for actions_of in unconditional for action in actions_of if "Describe" not in action] == []
    calls = {"AttachVolume", "CreateTags", "CreateVolume", "DeleteVolume", "DescribeInstances"}
    calls.add("DescribeInstanceStatus")
    assert actions == {f"ec2:{call}" for call in calls | {"DescribeVolumes", "DetachVolume"}}


def test_the_commands_that_make_the_role_of_the_walk_through_are_known_to_the_sdk(tmp_path: Path) -> None:
    page = "docs/aws-swarm.md"
    (trust,) = re.findall(r"```json\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    names = {f"file://{name}.json": f"file://{tmp_path}/{name}.json" for name in ("trust", "policy")}
    (tmp_path / "trust.json").write_text(json.dumps(json.loads(trust)))
    (tmp_path / "policy.json").write_text(section("Permissions").split("```json\n")[1].split("```")[0])

    def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, check=False, text=True, capture_output=True)

    operator = Operator(run, names, tmp_path)
    assert operator.does(page, "1. A role for the instances") == ""
    assert operator.does(page, "6. A dead node") == ""
    assert operator.tries("aws iam create-role --roel-name x").returncode != 0
