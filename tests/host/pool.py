"""Threads for the calls of tests."""

from volplug.host.threads import DevicePool

POOL = DevicePool("test", 64, "test")
