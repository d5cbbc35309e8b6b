"""The result of `make plugin` is as config.json and Dockerfile describe it, and small."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import volplug
from tests.lab import serve
from tests.lab.built import BuiltPlugin, built_plugin
from tests.lab.managed import as_tested
from tests.lab.requirements import PLUGIN

pytestmark = [*PLUGIN, pytest.mark.prepare(by=built_plugin)]

_CONFIG: dict[str, Any] = json.loads((Path(__file__).parents[2] / "config.json").read_text())
_MAX_IMAGE_BYTES = 190 * 10**6


@pytest.fixture(scope="module")
def built() -> BuiltPlugin:
    return built_plugin()


def _without_empty(shown: Any) -> Any:  # noqa: ANN401 - any JSON
    """As config.json writes it: lower-case keys, and nothing that is empty."""
    if isinstance(shown, dict):
        kept = {key.lower(): _without_empty(value) for key, value in shown.items()}
        return {key: value for key, value in kept.items() if value not in (None, "", [], {}, False)}
    return [_without_empty(value) for value in shown] if isinstance(shown, list) else shown


def test_docker_shows_the_plugin_as_config_json_describes_it(built: BuiltPlugin) -> None:
    shown = _without_empty(built.plugin["Config"])
    for made_by_docker in ("dockerversion", "rootfs"):
        shown.pop(made_by_docker)
    assert shown == _without_empty(_CONFIG)
    assert built.plugin["Enabled"] is False


def test_tests_enable_the_shipped_config_without_exactly_one_capability_and_with_more_mounts() -> None:
    enabled = as_tested(_CONFIG, {Path("/here"): "/there"})
    assert {key for key in _CONFIG if enabled[key] != _CONFIG[key]} == {"linux", "mounts"}
    shipped, ours = _CONFIG["linux"], enabled["linux"]
    assert {key for key in shipped if ours[key] != shipped[key]} == {"capabilities"}
    assert [*ours["capabilities"], "CAP_SYS_RESOURCE"] == shipped["capabilities"]
    *shipped_mounts, added = enabled["mounts"]
    assert shipped_mounts == _CONFIG["mounts"]
    assert (added["source"], added["destination"], added["options"]) == ("/here", "/there", ["rbind", "ro"])


def test_the_image_is_small_and_has_no_build_tools(built: BuiltPlugin) -> None:
    assert built.image["Size"] <= _MAX_IMAGE_BYTES
    rootfs = built.directory / "rootfs"
    programs = [f"usr/sbin/{name}" for name in ("mkfs.ext4", "mkfs.xfs", "e2fsck", "xfs_repair", "blkid")]
    programs += [f"usr/bin/{name}" for name in ("mount", "btrfs", "python3")]
    found = [name for name in programs if (rootfs / name).is_symlink() or (rootfs / name).is_file()]
    assert found == programs
    assert list(rootfs.glob("usr/lib/*/libudev.so.1"))
    assert [name for name in ("gcc", "pip", "pip3", "git") if (rootfs / "usr/bin" / name).exists()] == []
    for cache in ("var/lib/apt/lists", "var/cache", "root/.cache"):
        assert list((rootfs / cache).glob("*")) == []


@pytest.mark.parametrize("program", ["zfs", "zpool"])
def test_commands_of_zfs_have_all_their_libraries_and_nothing_else_of_it_is_there(
    built: BuiltPlugin, program: str
) -> None:
    rootfs = built.directory / "rootfs"
    asked = subprocess.run(
        ["chroot", str(rootfs), program, "list"], check=False, capture_output=True, text=True
    )
    # Without /dev and /sys there is no module for them.
    assert (asked.stdout, asked.stderr.splitlines()[0]) == ("", "The ZFS modules are not loaded.")
    left_out = (
        "etc/zfs",
        "etc/hostid",
        "usr/sbin/zdb",
        "usr/sbin/mount.zfs",
        "usr/lib/udev/rules.d/90-zfs.rules",
    )
    assert [name for name in left_out if (rootfs / name).exists()] == []


def test_dependencies_are_the_pinned_ones(built: BuiltPlugin) -> None:
    pinned = set((Path(__file__).parents[2] / "constraints.txt").read_text().splitlines())
    (packages,) = (built.directory / "rootfs").glob("opt/volplug/lib/python3*/site-packages")
    installed = {path.stem.replace("-", "==", 1) for path in packages.glob("*.dist-info")}
    assert f"volplug=={volplug.__version__}" in installed
    names = {_normalised(line) for line in pinned}
    others = {_normalised(line) for line in installed - {f"volplug=={volplug.__version__}"}}
    assert len(others) >= 5
    assert others <= names


def test_the_program_that_kills_volplug_for_tests_is_not_in_it(built: BuiltPlugin) -> None:
    (packages,) = (built.directory / "rootfs").glob("opt/volplug/lib/python3*/site-packages")
    assert not (packages / "tests").exists()
    shipped = {path.relative_to(packages): path.read_text() for path in packages.glob("volplug/**/*.py")}
    assert Path("volplug/__main__.py") in shipped
    assert [path for path, text in shipped.items() if "kill-at" in text] == []
    assert "kill-at" in Path(serve.__file__).read_text()


def test_the_sdk_describes_the_calls_of_the_ebs_driver_and_little_else(built: BuiltPlugin) -> None:
    (data,) = (built.directory / "rootfs").glob("opt/volplug/lib/python3*/site-packages/botocore/data")
    services = {path.name for path in data.iterdir() if path.is_dir()}
    assert services == {"ec2", "signin", "sso", "sso-admin", "sso-oidc", "sts"}
    assert [path.name for path in (data / "ec2").iterdir()] == ["2016-11-15"]
    program = (
        "import boto3.session; session = boto3.session.Session(region_name='eu-west-1'); "
        "print(session.client('ec2').meta.method_to_api_mapping['attach_volume'])"
    )
    assert _output_in(built, program) == "AttachVolume\n"


def test_the_sdk_of_openstack_works_without_what_was_left_out(built: BuiltPlugin) -> None:
    (packages,) = (built.directory / "rootfs").glob("opt/volplug/lib/python3*/site-packages")
    left_out = ("cryptography", "openstack/tests", "keystoneauth1/tests")
    assert [name for name in left_out if (packages / name).exists()] == []
    program = (
        "from openstack.config import OpenStackConfig; "
        "region = OpenStackConfig(load_yaml_config=False, load_envvars=False).get_one("
        "auth_type='v3applicationcredential', auth={'auth_url': 'http://127.0.0.1:1/v3', "
        "'application_credential_id': 'a', 'application_credential_secret': 's'}); "
        "print(type(region.get_session().auth).__name__)"
    )
    assert _output_in(built, program) == "ApplicationCredential\n"


def _normalised(requirement: str) -> str:
    name, equals, version = requirement.partition("==")
    return f"{name.lower().replace('-', '_').replace('.', '_')}{equals}{version}"


def _output_in(built: BuiltPlugin, program: str) -> str:
    """Run a Python program with the packages of the plugin and return what it prints."""
    command = ["chroot", str(built.directory / "rootfs"), "/opt/volplug/bin/python", "-c", program]
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": "/dev/null",
    }  # the SDK of OpenStack would write into the build
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
