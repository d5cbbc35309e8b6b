"""The SDK's description of EC2's API, which each of its sessions reads and parses: a third of a second."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import botocore.loaders
import pytest

_loader_of = functools.cache(botocore.loaders.create_loader)


@contextmanager
def read_once() -> Iterator[None]:
    """Let all sessions of the SDK share one loader, with what that has read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", _loader_of)
        yield
