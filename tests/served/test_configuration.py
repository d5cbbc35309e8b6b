"""Settings that are not what they seem, as a user of `volplug serve` meets them."""

from pathlib import Path

import pytest

from tests.dockerd import Dockerd
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine

pytestmark = pytest.mark.loop


async def test_variables_of_a_cloud_without_a_chosen_backend_refuse_creations_until_there_are_loop_volumes(
    machine: LocalMachine,
) -> None:
    variables = {"EBS_ACCESSKEY": "abc", "EBS_SECRETKEY": "not-shown", "VOLPLUG_LOGLEVEL": "debug"}
    with VolplugProcess(machine, env=variables) as process:
        async with Dockerd(machine.directory / "p.sock") as client:
            error = await client.error("Create", Name="vol1", Opts={"volumeType": "gp2"})
            assert (
                "no backend is chosen, but variables of ebs are set (EBS_ACCESSKEY, EBS_SECRETKEY)" in error
            )
            assert "Set VOLPLUG_BACKEND=ebs, or VOLPLUG_BACKEND=loop for this host's disk." in error
            assert await client.ok("List") == {"Volumes": []}
            await client.ok("Create", Name="vol1", Opts={"backend": "loop", "size": "16MiB"})
            await client.ok("Create", Name="vol2", Opts={"size": "16MiB"})
        log = process.log_text
        assert 'event="unknown variable ignored" variable=VOLPLUG_LOGLEVEL did_you_mean=VOLPLUG_LOG_L' in log
        assert 'event="loop is the default backend, which was not chosen"' in log
        assert "not-shown" not in log


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"VOLPLUG_BACKEND": "ebs"}, "volumes in a cloud belong to a cluster, and none is named."),
        ({"VOLPLUG_CONFIG": "nowhere"}, "the instance metadata service at http://127.0.0.1:1"),
        ({"VOLPLUG_CONFIG": "unmounted"}, "cannot be read: Not a directory."),
    ],
)
async def test_a_backend_that_cannot_be_used_is_warned_of_after_the_start(
    machine: LocalMachine, variables: dict[str, str], told: str
) -> None:
    files = {
        "nowhere": _CLOUD.format(root=machine.directory),
        "unmounted": f'[backends.d]\ndriver = "loop"\ndirectory = "{machine.directory}/nowhere/d"\n',
    }
    for name, text in files.items():
        (machine.directory / name).write_text(text)
    env = {name: _in(machine.directory, value) for name, value in variables.items()}
    with VolplugProcess(machine, env=env) as process:
        wait_until(lambda: "cannot be used" in process.log_text, 15, "the warning is logged")
        lines = process.log_text.splitlines()
        at = {
            word: [told_at for told_at, line in enumerate(lines) if word in line] for word in ("=ready", told)
        }
        assert at["=ready"] < at[told], process.log_text
        assert "level=warning" in lines[at[told][0]]


_CLOUD = """
cluster = "prod"
[backends.cloud]
driver = "ebs"
imds_endpoint = "http://127.0.0.1:1"
sys_root = "{root}"
"""


def _in(directory: Path, value: str) -> str:
    return str(directory / value) if value in ("nowhere", "unmounted") else value
