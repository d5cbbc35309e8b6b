"""Delays and failures of the lab's storage and hosts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path


class Operation(StrEnum):
    """A step of the storage or of a host that can be delayed or fail."""

    # cinder-volume's; Cinder tries a failed creation three times
    CREATE_VOLUME = "create_volume"
    DELETE_VOLUME = "delete_volume"
    CREATE_SNAPSHOT = "create_snapshot"
    DELETE_SNAPSHOT = "delete_snapshot"
    CREATE_VOLUME_FROM_SNAPSHOT = "create_volume_from_snapshot"
    CREATE_CLONED_VOLUME = "create_cloned_volume"
    EXTEND_VOLUME = "extend_volume"
    INITIALIZE_CONNECTION = "initialize_connection"
    TERMINATE_CONNECTION = "terminate_connection"
    # nova-compute's
    SPAWN = "spawn"
    ATTACH_VOLUME = "attach_volume"
    DETACH_VOLUME = "detach_volume"
    GROW_DEVICE = "grow_device"


class Faults:
    """The faults of a lab; of those of a running operation, only a hold can still be ended."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def order(
        self,
        operation: Operation,
        *,
        hold: bool = False,
        sleep_s: float = 0.0,
        fail: bool = False,
        once: bool = False,
    ) -> None:
        """Delay or fail an operation from now on.

        Args:
            operation: The operation.
            hold: Whether it waits until `end`.
            sleep_s: How long it waits after that.
            fail: Whether it fails then.
            once: Whether only the next one is affected.
        """
        words = [f"sleep {sleep_s}"] if sleep_s else []
        words += [word for word, wanted in (("hold", hold), ("fail", fail), ("once", once)) if wanted]
        new = self._directory / f".{operation}"
        new.write_text(" ".join(words))
        os.rename(new, self._directory / operation)

    def end(self, *operations: Operation) -> None:
        """End the faults of these operations, or all."""
        for operation in operations or Operation:
            (self._directory / operation).unlink(missing_ok=True)

    @contextmanager
    def held(self, operation: Operation) -> Iterator[None]:
        """Let an operation wait until the end of a `with` block."""
        self.order(operation, hold=True)
        try:
            yield
        finally:
            self.end(operation)
