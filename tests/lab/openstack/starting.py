"""Starts the processes of a cloud, and waits until they serve.

Nova and Cinder count a service as up that has reported in the last minute. It makes its first report some
seconds after its start; instead of waiting for that, the lab enters one once its log shows that it serves.
"""

from typing import Final

from tests.lab.openstack import configs
from tests.lab.openstack.configs import LOCAL, CloudSite
from tests.lab.openstack.processes import JOINED, Processes, compute_of

# To the last thing that each writes when it starts.
_LINES: Final = {
    "nova-conductor": JOINED,
    "nova-scheduler": JOINED,
    "cinder-scheduler": "Received volume service update",
    "cinder-volume": "Driver post RPC initialization completed successfully",
}
_PORTS: Final = {
    "keystone": configs.KEYSTONE,
    "placement": configs.PLACEMENT,
    "network": configs.NEUTRON,
    "nova-api": configs.NOVA,
    "cinder-api": configs.CINDER,
    "glance": configs.GLANCE,
}
_WITHOUT_MESSAGES: Final = ("keystone", "placement", "network")
_REPORTED: Final = (
    "UPDATE nova.services SET last_seen_up = UTC_TIMESTAMP(), updated_at = UTC_TIMESTAMP();\n"
    "UPDATE cinder.services SET updated_at = UTC_TIMESTAMP();\n"
)


def infrastructure(processes: Processes) -> None:
    """Start the databases and the message queue, and wait for the former."""
    processes.start("epmd", "rabbitmq", "mariadb")
    processes.await_port("mariadb", configs.MARIADB, LOCAL)


def services(processes: Processes, site: CloudSite) -> None:
    """Start what does not run yet of OpenStack's services, and wait until all serve."""
    processes.start(*(name for name in _WITHOUT_MESSAGES if not processes.is_running(name)))
    # One that finds no queue tries again ever later.
    processes.await_port("rabbitmq", configs.RABBITMQ, LOCAL)
    computes = [compute_of(node) for node in site.nodes]
    names = ["nova-conductor", *computes, *(_LINES.keys() | _PORTS.keys()) - {"nova-conductor"}]
    processes.start(*(name for name in names if not processes.is_running(name)))
    for name, port in _PORTS.items():
        processes.await_port(name, port)
    for name, text in {**_LINES, **dict.fromkeys(computes, JOINED)}.items():
        processes.await_line(name, text)
    processes.sql(_REPORTED)
