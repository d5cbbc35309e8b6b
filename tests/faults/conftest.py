"""Faults happen to a real process on real loop devices, as in tests/served."""

from tests.served.conftest import dockerd, fork_server, machine, volplug

__all__ = ["dockerd", "fork_server", "machine", "volplug"]
