"""Calls as they come: EC2's query protocol, parameters as a form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from tests.ec2sim import refusals

# Credential=KEY/DATE/REGION/ec2/aws4_request
_CREDENTIAL: Final = re.compile(r"Credential=([^/,\s]+)/\d+/([^/,\s]+)/ec2/aws4_request")


@dataclass(frozen=True, slots=True)
class Credential:
    """What a signature says of who signed it; signatures themselves are not checked.

    Attributes:
        access_key: The key.
        region: The region that it is for.
        session_token: Sent beside the signature, or empty.
    """

    access_key: str
    region: str
    session_token: str


@dataclass(frozen=True, slots=True)
class Request:
    """One call.

    Attributes:
        action: Such as AttachVolume.
        parameters: As sent, such as {"VolumeId.1": "vol-0..."}.
        caller: The instance that calls, or empty.
    """

    action: str
    parameters: Mapping[str, str]
    caller: str = ""

    def get(self, name: str) -> str:
        """Return a parameter, or an empty text."""
        return self.parameters.get(name, "")

    def required(self, name: str) -> str:
        """Return a parameter that has to be there."""
        value = self.get(name)
        if not value:
            raise refusals.MISSING(name[:1].lower() + name[1:])
        return value

    def number(self, name: str) -> int | None:
        """Return a parameter that is a number, or None."""
        value = self.get(name)
        if not value:
            return None
        if not value.isascii() or not value.isdigit():
            raise refusals.BAD_VALUE(name, value, "It has to be a number")
        return int(value)

    def is_set(self, name: str) -> bool:
        """Tell whether a parameter is true."""
        return self.get(name).lower() == "true"

    def listed(self, name: str) -> list[str]:
        """Return the values of NAME.1, NAME.2, ..."""
        values: list[str] = []
        while (value := self.parameters.get(f"{name}.{len(values) + 1}")) is not None:
            values.append(value)
        return values

    def filters(self) -> dict[str, list[str]]:
        """Return the filters by name."""
        found: dict[str, list[str]] = {}
        number = 1
        while name := self.get(f"Filter.{number}.Name"):
            found[name] = self.listed(f"Filter.{number}.Value")
            number += 1
        return found

    def tags(self, prefix: str = "Tag") -> dict[str, str | None]:
        """Return the tags of PREFIX.1.Key, PREFIX.1.Value, ...; None for a key without a value."""
        found: dict[str, str | None] = {}
        number = 1
        while (key := self.parameters.get(f"{prefix}.{number}.Key")) is not None:
            found[key] = self.parameters.get(f"{prefix}.{number}.Value")
            number += 1
        return found

    def new_tags(self, resource_type: str) -> dict[str, str]:
        """Return the tags that a create call has for what it creates."""
        number = 1
        while given := self.get(f"TagSpecification.{number}.ResourceType"):
            if given == resource_type:
                tags = self.tags(f"TagSpecification.{number}.Tag")
                return {key: value or "" for key, value in tags.items()}
            number += 1
        return {}


def read_parameters(body: bytes) -> dict[str, str]:
    """Read a form."""
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def read_credential(headers: Mapping[str, str]) -> Credential | None:
    """Read who signed a call, or None if nobody did."""
    match = _CREDENTIAL.search(headers.get("authorization", ""))
    if match is None:
        return None
    access_key, region = match.groups()
    return Credential(access_key, region, headers.get("x-amz-security-token", ""))
