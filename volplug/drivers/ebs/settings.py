"""Settings of an EBS backend: its table in the configuration file, then the environment.

It reads the variables of AWS's tools and those of REX-Ray.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from volplug.drivers.base import BackendConfig
from volplug.drivers.cloud.settings import CloudSettings, Sources, load, present
from volplug.drivers.cloud.tags import UserTagRules

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
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
USER_TAGS: Final = UserTagRules(re.compile(r"(?s).{1,128}"), "1 to 128 characters", 256, ("aws:", "volplug:"))


class EbsSettings(CloudSettings):
    """Settings of a `[backends.NAME]` table with `driver = "ebs"`; docs/drivers/ebs.md describes them.

    Attributes:
        imds_endpoint: URL of the instance metadata service (for tests).
        nvme_model: The model that EBS devices report (for tests).
    """

    region: str = ""
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = Field(default="", repr=False)
    session_token: str = Field(default="", repr=False)
    profile: str = ""
    kms_key_id: str = ""
    force_detach: bool = False
    tags: Annotated[Mapping[str, str], AfterValidator(USER_TAGS.checked)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    imds_endpoint: str = "http://169.254.169.254"
    nvme_model: str = "Amazon Elastic Block Store"

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, url: str) -> str:
        try:
            _ = urlsplit(url).port
        except ValueError:  # its text quotes the supposed port, which may be a part of a password
            raise ValueError("it is no URL", "In a password, write %2F for /") from None
        return url

    @model_validator(mode="after")
    def _check_keys(self) -> EbsSettings:
        if bool(self.access_key) != bool(self.secret_key):
            raise ValueError("access_key and secret_key are needed together")
        return self


def load_settings(config: BackendConfig, environment: Mapping[str, str] | None = None) -> EbsSettings:
    """Return the settings of a backend; see `load`."""
    return load(EbsSettings, _SOURCES, config, environment)


def _keys(variables: Mapping[str, str]) -> Mapping[str, str]:
    found = (present(names, variables) for names in _KEYS)
    return next((names for names in found if "access_key" in names or "secret_key" in names), {})


_SOURCES: Final = Sources(
    _VARIABLES, _keys, credential_settings=(*_KEY_NAMES, "profile"), for_tests=_FOR_TESTS, secrets=_KEY_NAMES
)
