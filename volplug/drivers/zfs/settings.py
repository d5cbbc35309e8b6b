"""Settings of a ZFS backend: its table in the configuration file, then the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from volplug.config.mistakes import Number, combined, described
from volplug.drivers.base import BackendConfig
from volplug.errors import InvalidSize
from volplug.masking import quoted
from volplug.sizes import MIB, parse_size

# zpoolconcepts(7) and zfsconcepts(7), without spaces. What a pool's name may not begin with is ZFS's matter.
_DATASET: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9_.:-]+)*", re.ASCII)
# A name has at most 255 characters: with `/`, the 128 of Docker's, `@` and a snapshot's 40.
_MOST_CHARACTERS: Final = 80
_POOL: Final = "ZFS_POOL"
VARIABLES: Final = frozenset({_POOL})


class ZfsSettings(BaseModel):
    """Settings of a `[backends.NAME]` table with `driver = "zfs"`; docs/drivers/zfs.md describes them.

    Attributes:
        pool: The dataset, such as `tank/volplug`, whose children are the volumes.
        reserve: Space that is kept for volplug's own metadata; empty for none.
        timeout_s: How long a command of ZFS may take.
        key_file: With the key of encrypted volumes; an absolute path.
        key_format: How the key is written there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, allow_inf_nan=False)

    pool: str
    reserve: str = "16MiB"
    timeout_s: Number = Field(default=30.0, gt=0)
    key_file: Path | None = None
    key_format: Literal["hex", "raw", "passphrase"] = "hex"

    @property
    def reserve_bytes(self) -> int:
        """Return the space kept; 0 for none."""
        return parse_size(self.reserve) if self.reserve else 0

    @field_validator("pool")
    @classmethod
    def _check_pool(cls, pool: str) -> str:
        parts = pool.split("/")
        if _DATASET.fullmatch(pool) is None or {".", ".."} & set(parts):
            raise ValueError(f"{quoted(pool)} is not the name of a dataset", "Write one such as tank/volplug")
        if len(pool) > _MOST_CHARACTERS:
            raise ValueError(f"{quoted(pool)} is longer than {_MOST_CHARACTERS} characters", "Write less")
        return pool

    @field_validator("key_file")
    @classmethod
    def _check_key_file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError(f"{quoted(str(path))} is not an absolute path", "Write one that begins with /")
        return path

    @field_validator("reserve")
    @classmethod
    def _check_reserve(cls, reserve: str) -> str:
        try:
            too_little = bool(reserve) and parse_size(reserve) < MIB
        except InvalidSize as error:
            raise ValueError(error.cause, error.remedy) from error
        if too_little:
            raise ValueError(f"{quoted(reserve)} is less than 1MiB", "Write 1MiB or more, or nothing")
        return reserve


def load_settings(config: BackendConfig, environment: Mapping[str, str] | None = None) -> ZfsSettings:
    """Return the settings of a backend.

    Args:
        config: The backend's configuration.
        environment: By default this process's; a variable is read if the table has no such key.

    Raises:
        ConfigurationError: Naming each setting that is wrong and why.
    """
    variable = (os.environ if environment is None else environment).get(_POOL, "")
    found = {**({"pool": variable} if variable else {}), **config.settings}

    def place(*location: object) -> str:
        if location != ("pool",) or "pool" in config.settings:
            return config.place(*location)
        return f"variable {_POOL}" if variable else f"{config.place(*location)}, or variable {_POOL},"

    try:
        return ZfsSettings.model_validate(found)
    except ValidationError as error:
        raise combined(described(error, {"driver", *ZfsSettings.model_fields}, place)) from None
