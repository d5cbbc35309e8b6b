"""Settings of a Cinder backend: its table in the configuration file, then the environment.

It reads the variables of OpenStack's tools and those of REX-Ray.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

import structlog
from pydantic import AfterValidator, Field, field_validator, model_validator

from volplug.drivers.base import BackendConfig
from volplug.drivers.cinder.timeouts import CinderTimeouts
from volplug.drivers.cloud.settings import CloudSettings, Sources, load, present
from volplug.drivers.cloud.tags import UserTagRules

_LOG = structlog.get_logger(__name__)

_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "availability_zone": ("CINDER_AVAILABILITYZONENAME",),
        "cacert": ("OS_CACERT", "CINDER_CACERT"),
        "clouds_file": ("OS_CLIENT_CONFIG_FILE",),
        "interface": ("OS_INTERFACE",),
        "region_name": ("OS_REGION_NAME", "CINDER_REGIONNAME"),
        "volume_type": ("OS_VOLUME_TYPE",),
    }
)
_OS: Final = {
    name: f"OS_{name.upper()}"
    for name in (
        "auth_url",
        *("application_credential_id", "application_credential_name", "application_credential_secret"),
        *("user_id", "username", "password", "project_id", "project_name"),
        *("user_domain_id", "user_domain_name", "project_domain_id", "project_domain_name"),
    )
}
_REXRAY: Final = MappingProxyType(
    {
        "auth_url": "CINDER_AUTHURL",
        "user_id": "CINDER_USERID",
        "username": "CINDER_USERNAME",
        "password": "CINDER_PASSWORD",
        "project_id": "CINDER_TENANTID",
        "project_name": "CINDER_TENANTNAME",
        "user_domain_id": "CINDER_DOMAINID",
        "user_domain_name": "CINDER_DOMAINNAME",
        "project_domain_id": "CINDER_DOMAINID",
        "project_domain_name": "CINDER_DOMAINNAME",
    }
)
_NOT_SUPPORTED: Final = (
    # Volplug waits as long as Docker lets it.
    *("CINDER_ATTACHTIMEOUT", "CINDER_CREATETIMEOUT", "CINDER_DELETETIMEOUT"),
    *("CINDER_TOKENID", "CINDER_TRUSTID"),
)
_SECRETS: Final = ("password", "application_credential_secret")
VARIABLES: Final = frozenset(
    {"OS_CLOUD", *(name for names in _VARIABLES.values() for name in names)}
    | {name for source in (_OS, _REXRAY) for name in source.values()}
    | {f"{source[secret]}_FILE" for source in (_OS, _REXRAY) for secret in _SECRETS if secret in source}
)
# https://opendev.org/openstack/cinder/src/branch/master/cinder/api/validation/parameter_types.py
USER_METADATA: Final = UserTagRules(
    re.compile(r"[a-zA-Z0-9_:. -]{1,255}"),
    "1 to 255 letters, digits, spaces and -_:.",
    255,
    ("volplug:",),
)


class CinderSettings(CloudSettings):
    """Settings of a `[backends.NAME]` table with `driver = "cinder"`; docs/drivers/cinder.md describes them.

    Attributes:
        poll_later_s: Time between two polls later on (for tests).
        race_s: Time between a creation and the look-up before the first attach (for tests).
    """

    cloud: str = ""
    clouds_file: str = ""
    auth_url: str = ""
    application_credential_id: str = ""
    application_credential_name: str = ""
    application_credential_secret: str = Field(default="", repr=False)
    user_id: str = ""
    username: str = ""
    password: str = Field(default="", repr=False)
    project_id: str = ""
    project_name: str = ""
    user_domain_id: str = ""
    user_domain_name: str = ""
    project_domain_id: str = ""
    project_domain_name: str = ""
    region_name: str = ""
    interface: Literal["", "public", "internal", "admin"] = ""
    cacert: str = ""
    volume_type: str = ""
    metadata: Annotated[Mapping[str, str], AfterValidator(USER_METADATA.checked)] = Field(
        default_factory=lambda: MappingProxyType({})
    )
    server_id: str = ""
    metadata_endpoint: str = "http://169.254.169.254"
    config_drive: Path = Path("/mnt/config")
    poll_s: float = Field(default=CinderTimeouts().poll_first_s, gt=0)
    poll_later_s: float = Field(default=CinderTimeouts().poll_longest_s, gt=0)
    race_s: float = Field(default=CinderTimeouts().race_s, ge=0)

    @property
    def has_application_credential(self) -> bool:
        """Tell whether an application credential is set."""
        return bool(self.application_credential_id or self.application_credential_name)

    @field_validator("interface", mode="before")
    @classmethod
    def _without_suffix(cls, interface: object) -> object:
        return interface.removesuffix("URL") if isinstance(interface, str) else interface  # publicURL

    @model_validator(mode="after")
    def _check_credentials(self) -> CinderSettings:
        if self.cloud:
            return self
        if not self.auth_url:
            raise ValueError("auth_url (OS_AUTH_URL) or cloud (OS_CLOUD) is needed")
        if self.has_application_credential:
            if not self.application_credential_secret:
                raise ValueError("application_credential_secret is needed")
            if not (self.application_credential_id or self.user_id or self.username):
                raise ValueError("application_credential_name needs the user, or use its id")
        elif not (self.user_id or self.username) or not self.password:
            raise ValueError("an application credential, or a user and its password, is needed")
        elif not (self.project_id or self.project_name):
            raise ValueError("project_id or project_name is needed")
        return self

    def auth(self) -> dict[str, str]:
        """Return what Keystone is given, in the SDK's words; empty for a cloud of clouds.yaml."""
        if self.cloud:
            return {}
        names = set(_OS)
        if self.has_application_credential:
            names -= {"password", *(name for name in _OS if name.startswith("project_"))}
        found = {name: str(getattr(self, name)) for name in sorted(names) if getattr(self, name)}
        for who in ("user", "project"):
            is_named = {"user": "username", "project": "project_name"}[who] in found
            if is_named and not any(f"{who}_domain_{each}" in found for each in ("id", "name")):
                found[f"{who}_domain_name"] = "Default"
        return found


def load_settings(config: BackendConfig, environment: Mapping[str, str] | None = None) -> CinderSettings:
    """Return the settings of a backend; see `load`."""
    return load(CinderSettings, _SOURCES, config, environment)


def _credentials(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables of one source: a password from one is wrong for a user from another."""
    if variables.get("OS_CLOUD"):
        return {"cloud": "OS_CLOUD"}
    if variables.get(_OS["auth_url"]):
        return present(_OS, variables)
    if not variables.get(_REXRAY["auth_url"]):
        return {}
    for name in (name for name in _NOT_SUPPORTED if variables.get(name)):
        _LOG.warning("variable of REX-Ray is ignored", variable=name)
    return present(_REXRAY, variables)


_SOURCES: Final = Sources(
    _VARIABLES,
    _credentials,
    credential_settings=("cloud", *_OS),
    for_tests={"sys_root", "dev_root", "proof_s", "poll_s", "poll_later_s", "race_s"},
    secrets=_SECRETS,
)
