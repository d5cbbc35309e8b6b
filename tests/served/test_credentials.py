"""What a served volplug with credentials logs and tells: with its ids, without the credentials."""

import json
from collections.abc import Iterator

import pytest

from tests.api.serving import Api
from tests.api.test_metrics import read, values
from tests.dockerd import Dockerd
from tests.ec2sim import Ec2Cloud, Instance, LoopHypervisor
from tests.ec2sim.refusals import Refusal
from tests.lab.leaks import check_logs
from tests.lab.plugin import VolplugProcess
from tests.lab.waiting import wait_until
from tests.served.conftest import LocalMachine
from tests.served.test_control_api import control_of

pytestmark = [pytest.mark.api, pytest.mark.loop]


@pytest.fixture
def cloud(machine: LocalMachine) -> Iterator[Ec2Cloud]:
    with Ec2Cloud(hypervisor=LoopHypervisor(str(machine.directory))) as cloud:
        yield cloud


def _environment(machine: LocalMachine, cloud: Ec2Cloud, instance: Instance) -> dict[str, str]:
    config = machine.directory / "config.toml"
    config.write_text(
        f"""backend = "ebs"
cluster = "test"
[backends.ebs]
driver = "ebs"
endpoint = "{cloud.endpoint}"
imds_endpoint = "{cloud.imds_endpoint_of(instance.instance_id)}"
sys_root = "{instance.sys_root}"
dev_root = "{instance.dev_root}"
poll_s = 0.1
"""
    )
    return {
        "VOLPLUG_CONFIG": str(config),
        "VOLPLUG_LOG_LEVEL": "debug",
        "VOLPLUG_LINGER_S": "0",
        "AWS_ACCESS_KEY_ID": instance.access_key,
        "AWS_SECRET_ACCESS_KEY": instance.secret_key,
        "AWS_SESSION_TOKEN": instance.session_token,
    }


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_the_log_names_operations_and_mounts_and_no_credentials(
    machine: LocalMachine, cloud: Ec2Cloud, log_format: str
) -> None:
    instance = cloud.add_instance("i-0a1b2c3d4e5f60718")
    env = _environment(machine, cloud, instance) | {"VOLPLUG_LOG_FORMAT": log_format}
    secrets = [instance.secret_key, instance.session_token]
    quoting = Refusal("SignatureDoesNotMatch", f"{' and '.join(secrets)} do not match", 403)
    with VolplugProcess(machine, env=env) as volplug:
        async with Dockerd(machine.directory / "p.sock") as dockerd, control_of(volplug) as api:
            cloud.set_plan(script={"CreateVolume": [quoting, "throttled"], "AttachVolume": ["throttled"]})
            refused = await dockerd.error("Create", Name="db", Opts={"size": "1GiB"})
            assert "*** and *** do not match" in refused
            await dockerd.ok("Create", Name="db", Opts={"size": "1GiB"})
            await dockerd.error("Mount", Name="none", ID="4567cdef")
            await dockerd.ok("Mount", Name="db", ID="0123abcd")
            await dockerd.ok("Unmount", Name="db", ID="0123abcd")
            shown = await api.call("POST", "/v1/volumes/db/release", headers={"X-Request-Id": "request-1"})
            assert shown.status == 202
            wait_until(lambda: "volume detached" in volplug.log_text, 20, "the volume is detached")
            await _check_counts(api)
    check_logs([volplug.log], secrets)
    if log_format == "json":
        _check_ids([json.loads(line) for line in volplug.log_text.splitlines()])


async def _check_counts(api: Api) -> None:
    calls = values(read((await api.get("/metrics")).body), "volplug_backend_calls_total")
    assert [calls["CreateVolume", "ebs", result] for result in ("ok", "refused", "throttled")] == [1, 1, 1]
    assert [calls["AttachVolume", "ebs", result] for result in ("ok", "throttled")] == [1, 1]


def _check_ids(events: list[dict[str, str]]) -> None:
    """Check that the lines of the work of a Mount name it and its operation, and others name none."""
    (attached,) = (each for each in events if each["event"] == "volume attached")
    assert attached["mount_id"] == "0123abcd"
    assert attached["operation"].startswith("mount ")
    (detached,) = (each for each in events if each["event"] == "volume detached")
    assert "mount_id" not in detached
    failed = [each for each in events if each["event"] == "call failed"]
    assert [each.get("mount_id") for each in failed] == [None, "4567cdef"]
    started = [each for each in events if each.get("request_id") == "request-1"]
    assert "call of the control API" in {each["event"] for each in started}
