"""The walks of tests/walks on this machine's OpenZFS: ``python -m tests.vm.run_zfs_walks WALKS STEPS``."""

import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from hypothesis import Phase
from hypothesis.stateful import run_state_machine_as_test

from tests.walks.test_zfs_walk import ZfsWalk
from tests.walks.walk import walk_settings


def main() -> None:
    """Run the same walks each time; an exception says what went wrong."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    walks, steps = map(int, sys.argv[1:])
    with TemporaryDirectory(dir="/var/tmp") as directory:  # in a machine of its own

        class HereWalk(ZfsWalk):
            below = Path(directory)

        run_state_machine_as_test(HereWalk, settings=walk_settings(walks, steps, Phase.generate))
    print("kept every promise")  # noqa: T201


if __name__ == "__main__":
    main()
