"""Volumes on OpenStack Cinder."""

from volplug.drivers.cinder.driver import CinderDriver, build

__all__ = ["CinderDriver", "build"]
