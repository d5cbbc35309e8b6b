"""The steps that change the world outside this process's memory, so that tests can stop the process at each.

The code that takes such a step announces it right afterwards, through a callable that is passed in.
Killing the process there shows what the next start and the next call make of a world in that state.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum, auto


class WorldStep(StrEnum):
    """One change of the world. Those of the convergence carry the names of its steps."""

    LEDGER_WRITTEN = auto()
    OPERATION_WRITTEN = auto()
    CREATE = auto()
    FENCE = auto()
    TAKE_OVER = auto()
    ATTACH = auto()
    TAG_FORMATTING = auto()
    MAKE_FILESYSTEM = auto()
    CHECK_FILESYSTEM = auto()
    MOUNT = auto()
    FINISH_FORMAT = auto()
    UNMOUNT = auto()
    DETACH = auto()
    DELETE = auto()
    LOOP_RECORD_BEGUN = auto()
    LOOP_IMAGE_MADE = auto()
    LOOP_CONFIGURED = auto()
    LOOP_RECORD_DELETING = auto()
    LOOP_IMAGE_REMOVED = auto()
    BARE_DIRECTORY_MADE = auto()
    UNMOUNTED_BEFORE_RMDIR = auto()
    DATA_DIRECTORY_MADE = auto()
    FORMAT_MARKED = auto()
    MKFS_ENDED = auto()
    CREATION_NOTED = auto()
    DATASET_MADE = auto()
    DATASET_NOTED = auto()
    DATASET_STAGED = auto()


OnStep = Callable[[WorldStep], None]


def unannounced(_: WorldStep) -> None:
    """Do nothing: the default."""
