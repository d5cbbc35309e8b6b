"""What is said of each type, and that it is said nowhere else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import volplug
from tests.host.disks import FS_TYPES
from volplug.host.filesystems import FILESYSTEMS
from volplug.host.filesystems.base import CheckResult

UUID = "0f1e2d3c-4b5a-4968-8796-a5b4c3d2e1f0"
PACKAGE = Path(volplug.__file__).parent
NAME = re.compile(rf"\b({'|'.join(FILESYSTEMS)})\b")
# The default where users and administrators name no type; `testing` makes volumes of some type as examples.
DEFAULTS = [("config/settings.py", "ext4"), ("models.py", "ext4"), ("volumes/options.py", "ext4")]


@pytest.mark.parametrize(
    ("fs_type", "options", "expected"),
    [
        ("ext4", (), f"mkfs.ext4 -q -U {UUID} -E nodiscard /dev/x"),
        (
            "ext4",
            ("-m", "0", "-E", "lazy_itable_init=0", "-E", "stride=4"),
            f"mkfs.ext4 -q -U {UUID} -E nodiscard,lazy_itable_init=0,stride=4 -m 0 /dev/x",
        ),
        ("xfs", ("-m", "crc=1"), f"mkfs.xfs -q -K -m uuid={UUID} -m crc=1 /dev/x"),
        ("btrfs", ("-L", "label"), f"mkfs.btrfs -q -K -U {UUID} -L label /dev/x"),
    ],
)
def test_mkfs_gets_the_uuid_never_discards_and_never_forces(
    fs_type: str, options: tuple[str, ...], expected: str
) -> None:
    argv = FILESYSTEMS[fs_type].mkfs_argv("/dev/x", options, UUID)
    assert " ".join(argv) == expected
    assert not {"-F", "-f", "--force"} & set(argv)


@pytest.mark.parametrize(
    ("codes", "result"),
    [
        ((0, 1, 2, 3), CheckResult.SOUND),
        ((4, 5, 6, 7), CheckResult.ERRORS_LEFT),
        ((8, 12, 16, 20, 32, 36, 128, 132, 64), CheckResult.FAILED),
    ],
)
def test_exit_codes_of_e2fsck_are_read(codes: tuple[int, ...], result: CheckResult) -> None:
    check = FILESYSTEMS["ext4"].check
    assert check is not None
    assert {code: check.read_exit_code(code) for code in codes} == dict.fromkeys(codes, result)


@pytest.mark.parametrize(
    ("fs_type", "damage", "superblock"),
    [
        ("ext4", "e2fsck -f", "e2fsck -f"),
        ("xfs", "xfs_repair", "xfs_repair"),
        ("btrfs", "btrfs check", "btrfs rescue super-recover"),
    ],
)
def test_remedies_name_the_program_that_repairs_a_type(fs_type: str, damage: str, superblock: str) -> None:
    filesystem = FILESYSTEMS[fs_type]
    remedy = f"Run {damage} on the volume's device, or image, while it is not in use"
    assert filesystem.how_to_repair == remedy
    remedy = (
        f"Run {superblock} on its unused device or image if its superblock is damaged, else restore a backup"
    )
    assert filesystem.how_to_repair_superblock == remedy


def test_the_registry_is_by_name_and_sorted() -> None:
    assert [filesystem.name for filesystem in FILESYSTEMS.values()] == list(FILESYSTEMS) == sorted(FS_TYPES)


def test_no_other_module_has_a_case_for_one_type() -> None:
    """So that another type takes one more module and one more word in the registry."""
    elsewhere = [
        (str(path.relative_to(PACKAGE)), text)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "testing" and path.parent != PACKAGE / "host/filesystems"
        for text in strings(ast.parse(path.read_text()))
        if NAME.search(text)
    ]
    assert elsewhere == DEFAULTS


def strings(tree: ast.Module) -> Iterator[str]:
    """The strings of the code, without docstrings."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value
