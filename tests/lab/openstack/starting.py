"""Starts the processes of a cloud, each as soon as what it needs is there."""

from typing import Final

from tests.lab.openstack import configs
from tests.lab.openstack.accounts import connection
from tests.lab.openstack.configs import LOCAL, Site
from tests.lab.openstack.processes import Processes, compute_of
from tests.lab.waiting import wait_until

_UP_TIMEOUT_S: Final = 120.0
_OTHERS: Final = {"nova-conductor", "nova-scheduler", "cinder-scheduler", "cinder-volume"}


def infrastructure(processes: Processes) -> None:
    """Start the databases and the message queue, and wait for the former."""
    processes.start("mariadb", "epmd", "rabbitmq")
    processes.await_port("mariadb", configs.MARIADB, LOCAL)


def services(processes: Processes, site: Site) -> None:
    """Start what does not run yet of OpenStack's services, and wait until all are up."""
    processes.await_port("rabbitmq", configs.RABBITMQ, LOCAL)
    first = ["nova-conductor", "keystone", "placement", "network", "cinder-volume", "cinder-scheduler"]
    last = ["nova-scheduler", "nova-api", "cinder-api", "glance"]
    processes.start(*(name for name in (*first, *last) if not processes.is_running(name)))
    # One that finds no conductor waits for 10 s.
    processes.await_line("nova-conductor", "Join ServiceGroup membership")
    processes.await_port("keystone", configs.KEYSTONE)
    processes.await_port("placement", configs.PLACEMENT)
    processes.start(*(compute_of(node) for node in site.nodes))
    for name, port in (
        ("glance", configs.GLANCE),
        ("cinder-api", configs.CINDER),
        ("nova-api", configs.NOVA),
    ):
        processes.await_port(name, port)
    _await_all_up(site)


def _await_all_up(site: Site) -> None:
    cloud = connection(site, "admin")

    def all_up() -> bool:
        found = [*cloud.compute.services(), *cloud.block_storage.services()]
        up = [(each.binary, each.host) for each in found if each.state == "up"]
        computes = {host for binary, host in up if binary == "nova-compute"}
        return computes >= set(site.nodes) and {binary for binary, _ in up} >= _OTHERS

    wait_until(all_up, _UP_TIMEOUT_S, "all services are up")
