"""A served EC2 as a process of its own.

    python -m tests.ec2sim --directory /tmp/cloud

Writes one line of JSON once it serves: {"endpoint": ..., "imds_endpoint": ...}. Ends by SIGTERM or SIGINT.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from tests.ec2sim.cloud import Ec2Cloud
from tests.ec2sim.hypervisor import MemoryHypervisor
from tests.ec2sim.loops import LoopHypervisor


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser("python -m tests.ec2sim", description=__doc__)
    parser.add_argument("--directory", required=True, help="for images and for what instances see")
    parser.add_argument("--hypervisor", choices=("loop", "memory"), default="loop")
    parser.add_argument("--instances", help="a JSON file: a list of the arguments of add_instance")
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # for all threads
    made = LoopHypervisor if arguments.hypervisor == "loop" else MemoryHypervisor
    instances = json.loads(Path(arguments.instances).read_text("utf-8")) if arguments.instances else []
    with Ec2Cloud(made(arguments.directory)) as cloud:
        for instance in instances:
            cloud.add_instance(**instance)
        ready = {"endpoint": cloud.endpoint, "imds_endpoint": cloud.imds_endpoint}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
