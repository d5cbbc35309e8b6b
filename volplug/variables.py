"""Environment variables: volplug's own, those of REX-Ray that it reads, and those of clouds.

An empty one counts as unset: a managed plugin's settable variables are always present.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from volplug.host.filesystems import FILESYSTEMS
from volplug.mistakes import nearest


@dataclass(frozen=True, slots=True)
class RexrayVariable:
    """A variable of REX-Ray with the meaning of a setting.

    Attributes:
        setting: The setting.
        words: Those of its values that are named differently here.
        allowed: Its values, for errors.
    """

    setting: str
    words: Mapping[str, str]
    allowed: str


REXRAY_VARIABLES: Final[Mapping[str, RexrayVariable]] = {
    "REXRAY_FSTYPE": RexrayVariable("default_fs", {}, ", ".join(FILESYSTEMS)),
    "REXRAY_LOGLEVEL": RexrayVariable("log_level", {"warn": "warning"}, "debug, info, warn or error"),
    # It took volumes from any node; here it requires proof that the node is dead.
    "REXRAY_PREEMPT": RexrayVariable(
        "takeover", {"true": "proof", "1": "proof", "false": "never", "0": "never"}, "true or false"
    ),
}


@dataclass(frozen=True, slots=True)
class CloudVariables:
    """Variables of a cloud: where they are set, volumes in that cloud may be expected.

    Attributes:
        prefixes: Of their names.
        driver: The driver of that cloud.
        are_for_volumes: Whether they were set for a volume plugin, as REX-Ray's were. Those of a cloud's own
            tools are set on many machines.
    """

    prefixes: tuple[str, ...]
    driver: str
    are_for_volumes: bool


# The first that is set counts. Another cloud is another line.
CLOUD_VARIABLES: Final = (
    CloudVariables(("EBS_",), "ebs", are_for_volumes=True),
    CloudVariables(("CINDER_",), "cinder", are_for_volumes=True),
    CloudVariables(("AWS_ACCESS_KEY_ID", "AWS_PROFILE"), "ebs", are_for_volumes=False),
    CloudVariables(("OS_AUTH_URL", "OS_CLOUD"), "cinder", are_for_volumes=False),
)


def variable_of(setting: str) -> str:
    """Return the environment variable of a setting."""
    return f"VOLPLUG_{setting.upper()}"


def rexray_in_force() -> Mapping[str, RexrayVariable]:
    """Return REX-Ray's variables that are set where volplug's own are not."""
    return {
        name: variable
        for name, variable in REXRAY_VARIABLES.items()
        if os.environ.get(name) and not os.environ.get(variable_of(variable.setting))
    }


def ignored_variables(settings: Iterable[str]) -> Mapping[str, str]:
    """Return the unknown `VOLPLUG_` variables, and for each the one that may be meant, or ""."""
    known = {variable_of(name) for name in settings} | {"VOLPLUG_CONFIG"}
    ignored = {}
    for name in sorted(os.environ):
        prefix, _, rest = name.partition("_")
        if os.environ[name] and prefix.upper() == "VOLPLUG" and name not in known:
            near = nearest(rest, (each.partition("_")[2] for each in known))
            ignored[name] = f"VOLPLUG_{near}" if near else ""
    return ignored


def cloud_variables() -> tuple[CloudVariables, tuple[str, ...]] | None:
    """Return the cloud whose variables are set, and which of them are."""
    for cloud in CLOUD_VARIABLES:
        if found := sorted(
            name for name in os.environ if name.startswith(cloud.prefixes) and os.environ[name]
        ):
            return cloud, tuple(found)
    return None
