"""Volumes as datasets of a ZFS pool of this host."""

from volplug.drivers.zfs.build import build

__all__ = ["build"]
