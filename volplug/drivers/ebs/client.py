"""Calls to EC2: in threads, repeated by the SDK, bounded in time.

Each action has a client of its own with its own adaptive pace and its own threads, so that throttled look-ups
never hold up an attach. The SDK is imported at the first call: volplug listens before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog

from volplug.drivers.ebs.faults import (
    Ec2Refused,
    is_about_credentials,
    is_denied,
    is_unavailable,
    translated,
    unavailable,
)
from volplug.drivers.ebs.identity import HostIdentity
from volplug.drivers.ebs.sdk import Clients
from volplug.drivers.ebs.settings import EbsSettings
from volplug.drivers.ebs.tries import GivenUp, Tries
from volplug.errors import BackendDenied, BackendError
from volplug.host.threads import Pool, ended

_LOG = structlog.get_logger(__name__)

_THREADS: Final = 64
# After it no further try begins; the one that runs has its own time-outs. Docker waits 60 s for most calls.
_BUDGET_S: Final = 25.0
_READING: Final = ("Describe", "Get", "List")


class Ec2:
    """EC2's API.

    Args:
        settings: Region, endpoint and credentials.
        host: Knows the region where the settings do not say it.
        budget_s: For how long a call is tried; a try that has begun by then ends by its own time-outs.
    """

    def __init__(self, settings: EbsSettings, host: HostIdentity, *, budget_s: float = _BUDGET_S) -> None:
        self._host = host
        self._budget_s = budget_s
        self._pools: dict[str, Pool] = {}
        self._clients = Clients(settings, _THREADS)

    async def call(self, action: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401  # each action has its own
        """Make one call and return EC2's answer.

        Cancelled, a call that changes something returns once nothing of it goes on.

        Args:
            action: EC2's name, such as `DescribeVolumes`.
            parameters: EC2's names and values.

        Raises:
            Ec2Refused: If EC2 refuses for a reason whose meaning the caller knows.
            BackendUnavailable: If there is no usable answer after all tries; a change may have been made.
            BackendDenied: If EC2 does not accept the credentials, or they lack a permission.
            ConfigurationError: If the region is not known, or the settings cannot be used.
        """
        region = await self._host.region()
        tries = Tries()
        running = self._pool(action).submit(self._run, action, region, parameters, tries)
        running.add_done_callback(_retrieved)
        try:
            done, _ = await asyncio.wait({running}, timeout=self._budget_s)
            if not done and tries.give_up():
                raise unavailable(action, f"{tries.last} for {self._budget_s:g} s")
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not tries.give_up() and not action.startswith(_READING):
                await ended(running)
            raise

    def _pool(self, action: str) -> Pool:
        if action not in self._pools:
            self._pools[action] = Pool(f"ebs-{action}", _THREADS)
        return self._pools[action]

    def _run(
        self, action: str, region: str, parameters: Mapping[str, Any], tries: Tries
    ) -> Mapping[str, Any]:
        """Make the call in this thread, with the SDK's errors in our words."""
        client = self._clients.get(action, region)
        from botocore.exceptions import ClientError  # the first call imports it
        from botocore.parsers import ResponseParserError  # likewise

        try:
            with tries.made_here():
                answer: Mapping[str, Any] = getattr(client, _method(action))(**parameters)
                return answer
        except GivenUp as error:
            raise unavailable(action, f"{tries.last} for {self._budget_s:g} s") from error
        except ClientError as error:
            raise self._refusal(action, error.response) from error
        except ResponseParserError as error:
            raise unavailable(action, f"its answer cannot be read: {error}") from error
        except Exception as error:  # the SDK's own, or whatever fails inside of it
            raise self._failure(action, error) from error

    def _refusal(self, action: str, answer: Mapping[str, Any]) -> Exception:
        said, about = answer.get("Error", {}), answer.get("ResponseMetadata", {})
        code, message = str(said.get("Code", "")), str(said.get("Message", ""))
        if is_unavailable(code, int(about.get("HTTPStatusCode", 0))):
            return unavailable(action, f"{code}: {message}")
        refused = Ec2Refused(action, code, message, was_repeated=int(about.get("RetryAttempts", 0)) > 0)
        if not is_denied(code):
            return refused
        _LOG.warning(
            "denied by EC2", action=action, code=code, message=message
        )  # an error has no room for it
        if is_about_credentials(code):
            self._clients.forget()
        return translated(refused)

    def _failure(self, action: str, error: Exception) -> Exception:
        """Return what a call that EC2 did not answer, or that was never made, failed of."""
        from botocore import exceptions  # the first call imports it

        if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError)):
            return unavailable(action, str(error))
        if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
            self._clients.forget()  # what was not found once is looked for again
            return BackendDenied(
                f"there are no credentials for {action}: {error}",
                "Give the instance a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        if isinstance(error, (exceptions.CredentialRetrievalError, exceptions.MetadataRetrievalError)):
            self._clients.forget()
            return BackendDenied(f"credentials for {action} cannot be fetched: {error}", "Check the role")
        return BackendError(f"the SDK cannot call {action}: {error}")


def _method(action: str) -> str:
    from botocore import xform_name  # the first call imports it

    return str(xform_name(action))


def _retrieved(running: asyncio.Future[Mapping[str, Any]]) -> None:
    """Take note of the error of a call whose caller has gone."""
    if not running.cancelled():
        running.exception()
