"""Faults happen to a real process on real loop devices, as in tests/served."""

from tests.served.conftest import machine

__all__ = ["machine"]
