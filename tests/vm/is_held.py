"""Runs in a guest: makes the release test of a dataset, which leaves no mount, and prints its result."""

import sys

from volplug.host import mountinfo
from volplug.host.named import is_held_now
from volplug.models import NamedFilesystem

before = mountinfo.read()
print(is_held_now(NamedFilesystem(sys.argv[1], "", "zfs")))  # noqa: T201 - that is its answer
assert mountinfo.read() == before
