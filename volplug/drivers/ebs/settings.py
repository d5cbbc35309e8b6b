"""Settings of an EBS backend: its table in the configuration file, then the environment.

It reads the variables of AWS's tools and those of REX-Ray. An empty one counts as unset: a managed plugin's
settable variables are always present.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from volplug.config.mistakes import WholeNumber
from volplug.drivers.base import BackendConfig
from volplug.drivers.cloud.settings import named_variables, secret_of, validated
from volplug.drivers.ebs.timeouts import Ec2Timeouts
from volplug.masking import quoted

_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION", "EBS_REGION"),
        "endpoint": ("EBS_ENDPOINT", "AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL"),
        "profile": ("AWS_PROFILE",),
        "kms_key_id": ("EBS_KMSKEYID",),
        "max_retries": ("EBS_MAXRETRIES",),
    }
)
# All keys come from one source: a token from one with a key from another is invalid.
_KEYS: Final[tuple[Mapping[str, str], ...]] = (
    MappingProxyType(
        {
            "access_key": "AWS_ACCESS_KEY_ID",
            "secret_key": "AWS_SECRET_ACCESS_KEY",
            "session_token": "AWS_SESSION_TOKEN",
        }
    ),
    MappingProxyType({"access_key": "EBS_ACCESSKEY", "secret_key": "EBS_SECRETKEY"}),
)
VARIABLES: Final = frozenset(
    {name for names in _VARIABLES.values() for name in names}
    | {f"{name}{suffix}" for names in _KEYS for name in names.values() for suffix in ("", "_FILE")}
)
_KEY_NAMES: Final = ("access_key", "secret_key", "session_token")
_FOR_TESTS: Final = {"sys_root", "dev_root", "imds_endpoint", "nvme_model", "proof_s", "poll_s"}
_RESERVED_PREFIXES: Final = ("aws:", "volplug:")


class EbsSettings(BaseModel):
    """Settings of a `[backends.NAME]` table with `driver = "ebs"`; empty means unset.

    Attributes:
        region: Region of the volumes; by default that of this instance.
        availability_zone: Zone of new volumes; by default that of this instance.
        endpoint: URL of EC2's API, if it is not AWS's own for the region.
        access_key: Id of an access key; without one the SDK searches for credentials, such as the instance's
            role.
        secret_key: Its secret.
        session_token: Of temporary keys.
        profile: Section of the SDK's configuration and credentials files.
        kms_key_id: Volumes are encrypted with this key unless `-o encrypted=false` is given.
        max_retries: How often a call that is throttled or gets no answer is retried, within its time.
        force_detach: Whether a volume may be detached by force from a stopped instance that does not release
            it.
        tags: Put on every volume that is created.
        sys_root: Path of sysfs (for tests).
        dev_root: Directory of device nodes (for tests).
        imds_endpoint: URL of the instance metadata service (for tests).
        nvme_model: The model that EBS devices report (for tests).
        proof_s: Time between the two reads that prove an instance dead (for tests).
        poll_s: Time between two polls of EC2 at first (for tests).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False)

    region: str = ""
    availability_zone: str = ""
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = Field(default="", repr=False)
    session_token: str = Field(default="", repr=False)
    profile: str = ""
    kms_key_id: str = ""
    max_retries: WholeNumber = Field(default=8, ge=0, le=50)
    force_detach: bool = False
    tags: Mapping[str, str] = Field(default_factory=lambda: MappingProxyType({}))
    sys_root: Path = Path("/sys")
    dev_root: Path = Path("/dev")
    imds_endpoint: str = "http://169.254.169.254"
    nvme_model: str = "Amazon Elastic Block Store"
    proof_s: float = Field(default=Ec2Timeouts().proof_s, ge=0)
    poll_s: float = Field(default=Ec2Timeouts().poll_first_s, gt=0)

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, url: str) -> str:
        try:
            _ = urlsplit(url).port
        except ValueError:  # its text quotes the supposed port, which may be a part of a password
            raise ValueError("it is no URL", "In a password, write %2F for /") from None
        return url

    @field_validator("tags")
    @classmethod
    def _check_tags(cls, tags: Mapping[str, str]) -> Mapping[str, str]:
        for key, value in tags.items():
            check_user_tag(key, value)
        return MappingProxyType(dict(tags))

    @model_validator(mode="after")
    def _check_keys(self) -> EbsSettings:
        if bool(self.access_key) != bool(self.secret_key):
            raise ValueError("access_key and secret_key are needed together")
        return self


def check_user_tag(key: str, value: str) -> None:
    """Check a user's tag against the limits of EC2 and the keys that volplug reserves.

    Limits: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions

    Raises:
        ValueError: With what is wrong.
    """
    if not 1 <= len(key) <= 128:
        raise ValueError(f"tag {quoted(key)}: a key has 1 to 128 characters")
    if len(value) > 256:
        raise ValueError(f"tag {quoted(key)}: a value has at most 256 characters")
    if key.lower().startswith(_RESERVED_PREFIXES):
        raise ValueError(f"tag {quoted(key)}: keys with {' or '.join(_RESERVED_PREFIXES)} are reserved")


def load_settings(config: BackendConfig, environment: Mapping[str, str] | None = None) -> EbsSettings:
    """Return the settings of a backend: its table takes precedence over the environment.

    Args:
        config: The backend's configuration.
        environment: By default this process's.

    Raises:
        ConfigurationError: Naming the setting that is wrong and why.
    """
    variables = os.environ if environment is None else environment
    table = {key: value for key, value in config.settings.items() if value != ""}
    named = named_variables(_VARIABLES, variables)
    found = {**{setting: variables[name] for setting, name in named.items()}, **table}
    if not any(key in table for key in (*_KEY_NAMES, "profile")):
        found |= _keys(variables)
    named = {setting: name for setting, name in named.items() if setting not in table}
    return validated(EbsSettings, found, named, config, for_tests=_FOR_TESTS, secrets=_KEY_NAMES)


def _keys(variables: Mapping[str, str]) -> dict[str, str]:
    for names in _KEYS:
        found = {setting: secret_of(name, variables) for setting, name in names.items()}
        if found["access_key"] or found["secret_key"]:
            return found
    return {}
