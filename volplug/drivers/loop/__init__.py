"""Volumes as image files on this host's disk, attached as loop devices: no cloud account, one host."""

from volplug.drivers.loop.driver import build

__all__ = ["build"]
