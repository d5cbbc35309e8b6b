"""A served EC2 as a process of its own, for hosts in network namespaces.

    python -m tests.ec2sim --address 10.0.0.1 --port 8080 --imds-port 8081 --directory /tmp/cloud

Writes one line of JSON once it serves: {"endpoint": ..., "imds_endpoint": ...}. Ends by SIGTERM or SIGINT.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from tests.ec2sim.cloud import REGION, Ec2Cloud
from tests.ec2sim.hypervisor import MemoryHypervisor
from tests.ec2sim.loops import LoopHypervisor


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.ec2sim", description=__doc__)
    parser.add_argument("--address", default="127.0.0.1", help="the IP address to listen at")
    parser.add_argument("--port", type=int, default=0, help="of the API and its control endpoint")
    parser.add_argument("--imds-port", type=int, default=0, help="of the metadata service")
    parser.add_argument("--directory", required=True, help="for images and for what instances see")
    parser.add_argument("--hypervisor", choices=("loop", "memory"), default="loop")
    parser.add_argument("--region", default=REGION)
    parser.add_argument("--instances", help="a JSON file: a list of the arguments of add_instance")
    return parser.parse_args()


def main() -> None:
    """Serve until a signal comes."""
    arguments = _arguments()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # for all threads
    made = LoopHypervisor if arguments.hypervisor == "loop" else MemoryHypervisor
    instances = json.loads(Path(arguments.instances).read_text("utf-8")) if arguments.instances else []
    with Ec2Cloud(
        made(arguments.directory),
        address=arguments.address,
        port=arguments.port,
        imds_port=arguments.imds_port,
        region=arguments.region,
    ) as cloud:
        for instance in instances:
            cloud.add_instance(**instance)
        ready = {"endpoint": cloud.endpoint, "imds_endpoint": cloud.imds_endpoint}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
