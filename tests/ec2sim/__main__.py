"""A simulated EC2 as a process of its own.

    python -m tests.ec2sim --directory /tmp/cloud

Writes one line of JSON once it serves: {"endpoint": ...}. Ends by SIGTERM or SIGINT.
"""

import argparse
import json
import signal
import sys

from tests.ec2sim.cloud import Ec2Cloud
from tests.ec2sim.loops import LoopHypervisor


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser("python -m tests.ec2sim", description=__doc__)
    parser.add_argument("--directory", required=True, help="for images and the /sys and /dev of instances")
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # for all threads
    with Ec2Cloud(LoopHypervisor(arguments.directory)) as cloud:
        sys.stdout.write(json.dumps({"endpoint": cloud.endpoint}) + "\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
