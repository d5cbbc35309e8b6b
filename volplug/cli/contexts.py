"""Contexts: names for places of daemons, kept in a file of the user, as the docker command has them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from volplug.api.client_errors import UsageError
from volplug.errors import HostError, NotFound

DEFAULT: Final = "default"  # this host's sockets
_NOT_TO_OTHERS: Final = 0o600


@dataclass(frozen=True, slots=True)
class Place:
    """Where a daemon is, as options and contexts say it; secrets stay in the files that it names.

    Attributes:
        host: unix://PATH or tcp://HOST:PORT; empty for this host's sockets.
        token_file: Path; empty for none.
        tlscacert: Path; empty for none.
        tlscert: Path; empty for none.
        tlskey: Path; empty for none.
    """

    host: str = ""
    token_file: str = ""
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of a user.

    Attributes:
        current: The name of the one in use.
        places: By name.
    """

    current: str = DEFAULT
    places: Mapping[str, Place] = field(default_factory=dict)

    def place(self, name: str) -> Place:
        """Return a context's place.

        Raises:
            NotFound: If there is no such context.
        """
        if name == DEFAULT:
            return Place()
        try:
            return self.places[name]
        except KeyError:
            raise NotFound(
                f"there is no context {name!r}", "volplug context ls lists those that exist"
            ) from None


def contexts_file() -> Path:
    """Return the path of the file."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "volplug" / "contexts.json"


def read_contexts(path: Path) -> Contexts:
    """Read the contexts; without a file there are none.

    Raises:
        HostError: If the file cannot be read.
    """
    try:
        read = json.loads(path.read_bytes())
        places = {name: Place(**place) for name, place in read["contexts"].items()}
        return Contexts(read["current"], places)
    except FileNotFoundError:
        return Contexts()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(
            f"the file of contexts {path} cannot be read: {error}", "Correct or remove it"
        ) from error


def write_contexts(path: Path, contexts: Contexts) -> None:
    """Replace the file as a whole.

    Raises:
        HostError: If it cannot be written.
    """
    written = {
        "current": contexts.current,
        "contexts": {name: asdict(place) for name, place in contexts.places.items()},
    }
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(written, indent=4) + "\n")
        new.chmod(_NOT_TO_OTHERS)
        new.replace(path)
    except OSError as error:
        raise HostError(f"the file of contexts {path} cannot be written: {error.strerror}") from error


def without(contexts: Contexts, name: str) -> Contexts:
    """Return the contexts without one, which must not be in use.

    Raises:
        UsageError: If it is in use.
    """
    contexts.place(name)
    if name in (DEFAULT, contexts.current):
        raise UsageError(f"context {name!r} is in use", f"volplug context use {DEFAULT} changes to this host")
    return Contexts(contexts.current, {key: contexts.places[key] for key in contexts.places if key != name})
