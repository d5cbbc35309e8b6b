"""ClientTokens of CreateVolume.

https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html: the same token with the same
parameters is answered with the same volume; other parameters, Region and Availability Zone aside, are an
error. So a token is taken to count within one zone: the same one in another makes another volume. Once its
volume has been deleted, or was never made although the call was answered, a token stays burnt:
https://github.com/kubernetes-sigs/aws-ebs-csi-driver/pull/2075
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.ec2sim import refusals

_MOST_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class _Use:
    volume_id: str
    parameters: Mapping[str, str]


class Tokens:
    """The tokens that were used."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str], _Use] = {}

    def volume_of(self, zone: str, parameters: Mapping[str, str]) -> str:
        """Return the volume that a call's token stands for, or an empty text if it is new or there is none.

        Raises:
            Refused: If the token came with other parameters, or is too long.
        """
        token = parameters.get("ClientToken", "")
        if len(token) > _MOST_CHARACTERS:
            raise refusals.LONG_TOKEN()
        use = self._uses.get((zone, token))
        if not token or use is None:
            return ""
        if use.parameters != _compared(parameters):
            raise refusals.OTHER_PARAMETERS()
        return use.volume_id

    def note(self, zone: str, parameters: Mapping[str, str], volume_id: str) -> None:
        """Take note of the volume that a call has made."""
        token = parameters.get("ClientToken", "")
        if token:
            self._uses[zone, token] = _Use(volume_id, _compared(parameters))

    def forget(self) -> None:
        """Forget all, as EC2 does after a time."""
        self._uses.clear()


def _compared(parameters: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in parameters.items() if name not in ("ClientToken", "AvailabilityZone")
    }
