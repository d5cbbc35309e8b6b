"""Options of volumes on Cinder: checks what users write and translates it to a request with metadata. Pure.

Volume types are the cloud's own, so that only Cinder can check them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from volplug.drivers.base import DriverInfo, Scope
from volplug.drivers.cinder.settings import USER_METADATA, CinderSettings
from volplug.drivers.cloud.tags import check_forms, parse_user_tags, volume_tags
from volplug.models import VolumeSpec
from volplug.sizes import GIB

TOKEN: Final = "volplug:token"  # noqa: S105  # a key; its value identifies the creation
ATTACHED: Final = "volplug:attached"

UNVERIFIED: Final = "unverified"
OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "availability-zone": "ZONE",
        "blank": f"verified|{UNVERIFIED}",
        "metadata": "'team=web,stage=test'",
        "type": "TYPE",
    }
)
OPTION_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "az": "availability-zone",
        "tag": "metadata",
        "tags": "metadata",
        "volumetype": "type",
        "zone": "availability-zone",
    }
)
INFO: Final = DriverInfo(
    driver="cinder",
    scope=Scope.GLOBAL,
    remote=True,
    allocation_unit_bytes=GIB,
    default_size_bytes=10 * GIB,
    minimum_size_bytes=GIB,
    maximum_size_bytes=1024 * 1024 * GIB,
    default_linger_s=5.0,
    options=OPTIONS,
    option_aliases=OPTION_ALIASES,
)
_FORMS: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        "availability-zone": re.compile(r"[^\x00-\x1f]{1,255}"),
        "blank": re.compile(rf"verified|{UNVERIFIED}"),
        "type": re.compile(r"[^\x00-\x1f]{1,255}"),
    }
)


def check_options(spec: VolumeSpec) -> None:
    """Check a spec's driver options.

    Raises:
        InvalidOption: If a value is wrong.
    """
    check_forms(spec, _FORMS, OPTIONS)
    user_metadata(spec, {})


def user_metadata(spec: VolumeSpec, configured: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata set by users: the backend's, then the volume's own.

    Raises:
        InvalidOption: If it cannot be read, or Cinder would refuse it.
    """
    text = dict(spec.driver_options).get("metadata", "")
    return {**configured, **parse_user_tags(text, USER_METADATA, "metadata", OPTIONS["metadata"])}


def metadata_of(
    spec: VolumeSpec, cluster: str, user_metadata: Mapping[str, str], token: str
) -> dict[str, str]:
    """Return the metadata of a new, blank volume; the token is that of the creation."""
    return {**user_metadata, **volume_tags(spec, cluster, USER_METADATA.value_length), TOKEN: token}


def is_unverified(spec: VolumeSpec) -> bool:
    """Tell whether mkfs does not need the proof that the volume is blank."""
    return dict(spec.driver_options).get("blank") == UNVERIFIED


def create_body(spec: VolumeSpec, settings: CinderSettings, zone: str) -> dict[str, Any]:
    """Return the body of a creation except for the metadata.

    The volume is in the given zone unless its options or the settings name another; "" is Cinder's default.
    """
    options = dict(spec.driver_options)
    chosen = {
        "name": spec.name,
        "size": spec.size_bytes // GIB,
        "volume_type": options.get("type") or settings.volume_type,
        "availability_zone": options.get("availability-zone") or settings.availability_zone or zone,
    }
    return {key: value for key, value in chosen.items() if value}
