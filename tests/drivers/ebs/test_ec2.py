"""Calls to EC2, over real connections to a server that throttles, fails, hangs up and waits."""

import asyncio
import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest
from structlog.testing import capture_logs

from tests.drivers.ebs.answering import CLOSED, Asked, Reply, Server, answering, metadata_of, refusal
from volplug.drivers.cloud.calls import RetryingCaller
from volplug.drivers.ebs.ec2 import SDK, Ec2, _make_client, _without_texts
from volplug.drivers.ebs.errors import Ec2Refused
from volplug.drivers.ebs.instance import HostIdentity
from volplug.drivers.ebs.settings import VARIABLES, EbsSettings
from volplug.errors import BackendDenied, BackendError, BackendUnavailable, ConfigurationError
from volplug.masking import mask_event

pytestmark = pytest.mark.ebs

NOWHERE = "http://127.0.0.1:1"
DONE = Reply("<Response><status>attached</status></Response>")
THROTTLED = refusal("RequestLimitExceeded", "Request limit exceeded.", 503)
BROKEN = refusal("InternalError", "An internal error has occurred", 500)
PAGE = Reply("<html><title>502 Bad Gateway</title></html>", 502)
XML_PAGE = Reply("<!DOCTYPE html><html><title>503 Service Unavailable</title></html>", 503)
NO_XML_PAGE = Reply("upstream connect error", 503)
UNREADABLE = Reply("not XML")
OUTAGES = {
    "throttled": (THROTTLED, "RequestLimitExceeded: Request limit exceeded"),
    "broken": (BROKEN, "InternalError: An internal error has occurred"),
    "page": (PAGE, "502: Bad Gateway"),
    "XML page": (XML_PAGE, "HTTP status 503"),
    "page that is no XML": (NO_XML_PAGE, "its answer cannot be read: Unable to parse response"),
    "unreadable": (UNREADABLE, "its answer cannot be read: Unable to parse response"),
    "closed": (CLOSED, "Connection was closed before"),
}
IN_USE = refusal("VolumeInUse", "vol-1 is already attached to an instance")
ATTACHING = {"VolumeId": "vol-1", "InstanceId": "i-1", "Device": "/dev/sdf"}
ROLE = (
    '{"Code": "Success", "AccessKeyId": "ASIA1", "SecretAccessKey": "x", "Token": "session-1", '
    '"Expiration": "2099-01-01T00:00:00Z"}'
)
Serve = Callable[[Callable[[Asked], Reply]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(answering(answer))


def replies(*given: Reply) -> Callable[[Asked], Reply]:
    """Answer one after the other, and the last one for ever."""
    left = list(given)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def once_released(release: threading.Event, reply: Reply) -> Callable[[Asked], Reply]:
    """Answer when the event is set."""

    def answer(_: Asked) -> Reply:
        release.wait(60)
        return reply

    return answer


async def no_pause(_: float) -> None:
    """Retry at once."""


def settings_of(url: str, *, keys: bool = True, **values: object) -> EbsSettings:
    known = {"endpoint": url, "region": "eu-central-1", "imds_endpoint": NOWHERE, "max_retries": 1}
    if keys:
        known |= {"access_key": "AKIA1", "secret_key": "x"}
    return EbsSettings.model_validate(known | values)


def ec2_of(url: str, **values: Any) -> Ec2:  # noqa: ANN401  # each setting has its own
    settings = settings_of(url, **values)
    caller = RetryingCaller("EC2", settings.max_retries, sleep=no_pause)
    return Ec2(settings, HostIdentity(settings), caller)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # what threads of the server bring about
        await asyncio.sleep(0.005)


async def test_an_answer_is_returned(serve: Serve) -> None:
    server = serve(replies(DONE))
    assert (await ec2_of(server.url).call("AttachVolume", **ATTACHING))["State"] == "attached"
    (asked,) = server.asked
    assert asked.form | {"Action": "AttachVolume"} | ATTACHING == asked.form


@pytest.mark.parametrize("outage", [outage for outage, _ in OUTAGES.values()], ids=OUTAGES)
async def test_what_is_unavailable_is_retried(serve: Serve, outage: Reply) -> None:
    server = serve(replies(outage, DONE))
    assert (await ec2_of(server.url).call("AttachVolume", **ATTACHING))["State"] == "attached"
    assert len(server.asked) == 2


@pytest.mark.parametrize(("outage", "text"), OUTAGES.values(), ids=OUTAGES)
async def test_outage_that_stays_is_unavailable_in_the_end(serve: Serve, outage: Reply, text: str) -> None:
    server = serve(replies(outage))
    with pytest.raises(BackendUnavailable) as away:
        await ec2_of(server.url, max_retries=2).call("AttachVolume", **ATTACHING)
    assert away.value.cause.startswith(f"EC2 did not answer AttachVolume: {text}")
    assert away.value.is_throttled == (outage == THROTTLED)
    assert len(str(away.value)) <= 300
    assert len(server.asked) == 3


async def test_setting_says_how_often_a_call_is_retried(serve: Serve) -> None:
    """As the driver builds it, which pauses before a retry."""
    server = serve(replies(THROTTLED))
    settings = settings_of(server.url, max_retries=0)
    with pytest.raises(BackendUnavailable):
        await Ec2(settings, HostIdentity(settings)).call("AttachVolume", **ATTACHING)
    assert len(server.asked) == 1


async def test_ec2_is_unavailable_where_no_server_listens() -> None:
    with pytest.raises(BackendUnavailable, match="Could not connect to the endpoint"):
        await ec2_of(NOWHERE).call("DescribeVolumes")


async def test_a_zone_without_room_is_a_refusal_although_ec2_calls_it_an_error_of_its_own(
    serve: Serve,
) -> None:
    server = serve(replies(refusal("InsufficientVolumeCapacity", "no capacity", 500)))
    with pytest.raises(Ec2Refused) as refused:
        await ec2_of(server.url).call("CreateVolume", AvailabilityZone="eu-central-1a", Size=1)
    assert refused.value.code == "InsufficientVolumeCapacity"


async def test_a_refusal_is_for_the_caller_and_not_repeated(serve: Serve) -> None:
    server = serve(replies(IN_USE))
    with pytest.raises(Ec2Refused) as refused:
        await ec2_of(server.url).call("AttachVolume", **ATTACHING)
    said = refused.value
    assert (said.action, said.code, said.was_repeated) == ("AttachVolume", "VolumeInUse", False)
    assert said.message == "vol-1 is already attached to an instance"
    assert len(server.asked) == 1


async def test_refusal_of_a_retry_says_that_an_earlier_try_may_have_done_it(serve: Serve) -> None:
    server = serve(replies(CLOSED, IN_USE))
    with pytest.raises(Ec2Refused) as refused:
        await ec2_of(server.url).call("AttachVolume", **ATTACHING)
    assert (refused.value.code, refused.value.was_repeated) == ("VolumeInUse", True)


@pytest.mark.parametrize(
    ("code", "status", "remedy"),
    [
        ("UnauthorizedOperation", 403, "Allow ec2:AttachVolume in the IAM policy of this host"),
        ("AuthFailure", 401, "Check access key and secret"),
        ("InvalidClientTokenId", 403, "Check the access key"),
        ("ExpiredToken", 400, "Renew the temporary credentials"),
        ("RequestExpired", 400, "Check this host's clock"),
    ],
)
async def test_a_denial_is_no_outage_and_says_what_is_missing(
    serve: Serve, code: str, status: int, remedy: str
) -> None:
    server = serve(replies(refusal(code, "You may not", status)))
    with pytest.raises(BackendDenied) as denied:
        await ec2_of(server.url).call("AttachVolume", **ATTACHING)
    assert denied.value.cause == f"EC2 denied AttachVolume: {code}: You may not"
    assert denied.value.remedy.startswith(remedy)
    assert len(server.asked) == 1


async def test_all_that_aws_says_of_a_denial_is_in_the_log(serve: Serve) -> None:
    message = "You are not authorized. Encoded authorization failure message: H8F0jDN9KPpy"
    server = serve(replies(refusal("UnauthorizedOperation", message, 403)))
    with capture_logs() as logged, pytest.raises(BackendDenied):
        await ec2_of(server.url).call("AttachVolume", **ATTACHING)
    assert [(line["event"], line["action"], line["message"]) for line in logged] == [
        ("EC2 denied a call", "AttachVolume", message)
    ]


def explained(asked: Asked) -> Reply:
    """Explain a wrong signature by the request that was signed, as some endpoints do."""
    token = asked.headers["x-amz-security-token"]
    return refusal("SignatureDoesNotMatch", f"Signed should be x-amz-security-token:{token} and no more", 403)


@pytest.mark.parametrize("length", [20, 1000], ids=["short", "cut"])
async def test_a_session_token_that_an_endpoint_quotes_is_masked(serve: Serve, length: int) -> None:
    """The token is the role's, which the SDK gets, and not in the settings."""
    token = f"{length}-".ljust(length, "F")
    metadata = serve(
        metadata_of(
            iam__security_credentials__="volplug",
            iam__security_credentials__volplug=ROLE.replace("session-1", token),
        )
    )
    ec2 = ec2_of(serve(explained).url, keys=False, imds_endpoint=metadata.url)
    with capture_logs([mask_event]) as logged, pytest.raises(BackendDenied) as denied:
        await ec2.call("AttachVolume", **ATTACHING)
    said = "Signed should be x-amz-security-token:*** and no more"
    assert denied.value.cause == f"EC2 denied AttachVolume: SignatureDoesNotMatch: {said}"
    assert [line["message"] for line in logged] == [said]


async def test_the_password_of_an_endpoint_is_masked() -> None:
    with pytest.raises(BackendUnavailable) as away:
        await ec2_of("http://me:pass@word@127.0.0.1:1").call("DescribeVolumes")
    assert 'endpoint URL: "http://me:***@127.0.0.1:1/"' in away.value.cause


async def test_credentials_that_come_later_are_found(serve: Serve, tmp_path: Path) -> None:
    server = serve(replies(DONE))
    ec2 = ec2_of(server.url, keys=False)
    with pytest.raises(BackendDenied) as denied:
        await ec2.call("AttachVolume", **ATTACHING)
    assert denied.value.cause == "there are no credentials for AttachVolume: Unable to locate credentials"
    assert "Give the instance a role" in denied.value.remedy
    assert server.asked == []
    (tmp_path / "aws-credentials").write_text(
        "[default]\naws_access_key_id = AKIA2\naws_secret_access_key = x\n"
    )
    await ec2.call("AttachVolume", **ATTACHING)
    assert "Credential=AKIA2/" in server.asked[0].headers["authorization"]


async def test_keys_that_are_not_accepted_are_read_again(serve: Serve, tmp_path: Path) -> None:
    def accepts_the_new(asked: Asked) -> Reply:
        return DONE if "AKIA3" in asked.headers["authorization"] else refusal("InvalidClientTokenId")

    def write(key: str) -> None:
        (tmp_path / "aws-credentials").write_text(
            f"[default]\naws_access_key_id = {key}\naws_secret_access_key = x\n"
        )

    write("AKIA2")
    ec2 = ec2_of(serve(accepts_the_new).url, keys=False)
    with pytest.raises(BackendDenied):
        await ec2.call("AttachVolume", **ATTACHING)
    write("AKIA3")
    assert (await ec2.call("AttachVolume", **ATTACHING))["State"] == "attached"


async def test_without_keys_the_instances_role_is_used_in_its_region(serve: Serve) -> None:
    metadata = serve(
        metadata_of(
            instance_id="i-0123456789abcdef0",
            placement__availability_zone="us-west-2a",
            placement__region="us-west-2",
            iam__security_credentials__="volplug",
            iam__security_credentials__volplug=ROLE,
        )
    )
    server = serve(replies(DONE))
    await ec2_of(server.url, keys=False, region="", imds_endpoint=metadata.url).call(
        "AttachVolume", **ATTACHING
    )
    headers = server.asked[0].headers
    assert "Credential=ASIA1/" in headers["authorization"]
    assert "/us-west-2/ec2/" in headers["authorization"]
    assert headers["x-amz-security-token"] == "session-1"


@pytest.mark.parametrize("keys", [True, False])
async def test_variables_that_are_empty_count_as_unset(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, keys: bool
) -> None:
    """As in a managed plugin, where all of config.json's variables are always there."""
    for name in {*VARIABLES, "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}:
        monkeypatch.setenv(name, "")
    role = serve(metadata_of(iam__security_credentials__="volplug", iam__security_credentials__volplug=ROLE))
    server = serve(replies(DONE))
    await ec2_of(server.url, keys=keys, imds_endpoint=role.url).call("AttachVolume", **ATTACHING)
    used = server.asked[0].headers["authorization"]
    assert ("Credential=AKIA1/" if keys else "Credential=ASIA1/") in used


async def test_a_profiles_keys_win_over_those_of_the_environment(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA4")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    (tmp_path / "aws-credentials").write_text("[ops]\naws_access_key_id = AKIA5\naws_secret_access_key = x\n")
    server = serve(replies(DONE))
    await ec2_of(server.url, keys=False, profile="ops").call("AttachVolume", **ATTACHING)
    assert "Credential=AKIA5/" in server.asked[0].headers["authorization"]


async def test_credentials_that_cannot_be_renewed_are_a_denial(serve: Serve, tmp_path: Path) -> None:
    """A program gives some that have expired, and then none."""
    expired = '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "x", "Expiration": "2000-01-01T00:00Z"}'
    (tmp_path / "program").write_text(f"mkdir {tmp_path}/asked && echo '{expired}'")
    (tmp_path / "aws-config").write_text(f"[profile ops]\ncredential_process = sh {tmp_path}/program\n")
    server = serve(replies(DONE))
    with pytest.raises(BackendDenied, match="credentials for AttachVolume cannot be fetched"):
        await ec2_of(server.url, keys=False, profile="ops").call("AttachVolume", **ATTACHING)
    assert server.asked == []


async def test_a_profile_of_the_sdk_that_does_not_exist_is_an_error_of_the_settings() -> None:
    with pytest.raises(ConfigurationError, match=r"The config profile \(ops\) could not be found"):
        await ec2_of(NOWHERE, keys=False, profile="ops").call("AttachVolume", **ATTACHING)


async def test_what_the_sdk_cannot_send_is_an_error_of_its_own(serve: Serve) -> None:
    server = serve(replies(DONE))
    with pytest.raises(BackendError, match="the SDK cannot call AttachVolume"):
        await ec2_of(server.url).call("AttachVolume", VolumeId=7)
    assert server.asked == []


async def test_calls_run_at_the_same_time(serve: Serve) -> None:
    together = threading.Barrier(50)

    def waits_for_all(_: Asked) -> Reply:
        together.wait(60)
        return DONE

    ec2 = ec2_of(serve(waits_for_all).url, max_retries=0)
    answers = await asyncio.gather(*(ec2.call("AttachVolume", **ATTACHING) for _ in range(50)))
    assert {answer["State"] for answer in answers} == {"attached"}


async def test_lookups_that_hang_do_not_hold_up_other_actions(serve: Serve) -> None:
    release = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.action == "DescribeVolumes":
            release.wait(60)
        return DONE

    server = serve(answer)
    ec2 = ec2_of(server.url, max_retries=0)
    lookups = [asyncio.create_task(ec2.call("DescribeVolumes")) for _ in range(70)]
    try:
        await until(lambda: len(server.asked) == 64)
        assert (await ec2.call("AttachVolume", **ATTACHING))["State"] == "attached"
    finally:
        release.set()
        await asyncio.gather(*lookups)


async def test_a_cancelled_change_ends_with_its_answer(serve: Serve) -> None:
    release = threading.Event()
    server = serve(once_released(release, DONE))
    attach = asyncio.create_task(ec2_of(server.url).call("AttachVolume", **ATTACHING))
    try:
        await until(lambda: len(server.asked) == 1)
        attach.cancel()
        done, _ = await asyncio.wait({attach}, timeout=0.1)
        assert not done
    finally:
        release.set()
    with pytest.raises(asyncio.CancelledError):
        await attach


async def test_a_cancelled_lookup_ends_at_once(serve: Serve) -> None:
    release = threading.Event()
    server = serve(once_released(release, DONE))
    lookup = asyncio.create_task(ec2_of(server.url).call("DescribeVolumes"))
    try:
        await until(lambda: len(server.asked) == 1)
        lookup.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert lookup.cancelled()
    finally:
        release.set()


async def test_region_that_is_not_known_is_an_error_of_the_settings() -> None:
    with pytest.raises(ConfigurationError, match="the instance metadata service"):
        await ec2_of(NOWHERE, region="").call("DescribeVolumes")


async def test_sdk_that_is_not_installed_is_an_error_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.config", None)
    with pytest.raises(ConfigurationError, match="the SDK of AWS is not installed") as missing:
        await ec2_of(NOWHERE).call("AttachVolume", **ATTACHING)
    assert missing.value.remedy == "Install volplug with its extra: volplug[ebs]"


def test_sdk_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SDK.is_installed()
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "boto3", raising=False)
    importlib.invalidate_caches()
    assert not SDK.is_installed()


def test_the_sdk_is_not_imported_before_the_first_call() -> None:
    program = (
        "import sys, volplug.drivers.ebs, volplug.drivers.ebs.ec2; "
        "sys.exit(any(name in sys.modules for name in ('boto3', 'botocore')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_sdk_is_given_its_description_of_ec2_without_texts() -> None:
    """They would be a tenth of volplug's memory."""
    client = _make_client(settings_of(NOWHERE), "eu-west-1")
    theirs = botocore.loaders.create_loader().load_service_model("ec2", "service-2")
    shape = client.meta.service_model.operation_model("DescribeVolumes").input_shape
    assert list(shape.members) == list(theirs["shapes"]["DescribeVolumesRequest"]["members"])
    assert shape.documentation == shape.members["VolumeIds"].documentation == ""


def test_a_member_that_is_called_documentation_is_kept() -> None:
    text = '{"members": {"documentation": {"shape": "String"}}, "documentation": "<p>A text.</p>"}'
    assert json.loads(text, object_pairs_hook=_without_texts) == {
        "members": {"documentation": {"shape": "String"}}
    }
