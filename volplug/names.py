"""The naming rules of volumes, for which dockerd has none on Linux, and of a cluster's nodes."""

from __future__ import annotations

import re
from typing import Final

from volplug.errors import InvalidName

NAME_PATTERN: Final = "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}"
_RULE: Final = re.compile(NAME_PATTERN, re.ASCII)
_LABEL: Final = "[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
_NODE_RULE: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_LONGEST_NODE_NAME: Final = 64  # of a common name in a certificate, and of a host's name


def is_name(text: str) -> bool:
    """Tell whether a text may be the name of a volume; it is then safe as one component of a path."""
    return _RULE.fullmatch(text) is not None


def is_node_name(text: str) -> bool:
    """Tell whether a node of a cluster may have this name: it is a part of a TLS name in its certificate."""
    return len(text) <= _LONGEST_NODE_NAME and _NODE_RULE.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Return the name if it follows the rule.

    Raises:
        InvalidName: If it does not; the text shows the beginning of the name.
    """
    if not is_name(name):
        shown = name if len(name) <= 40 else f"{name[:40]}... ({len(name)} characters)"
        if "=" in name:  # as Portworx reads options out of names
            raise InvalidName(
                f"volume name {shown!r} is not allowed",
                "A name holds no options: give them as -o, as driver_opts in Compose and Terraform, as "
                "options of driver_config in Nomad",
            )
        raise InvalidName(
            f"volume name {shown!r} is not allowed",
            "Use 1 to 128 of a-z A-Z 0-9 _ . - beginning with a letter or digit",
        )
    return name
