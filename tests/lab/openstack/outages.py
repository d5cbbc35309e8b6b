"""Services of a lab that are out for a while: they have ended, or hang, or their database restarts."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from signal import SIGCONT, SIGSTOP
from typing import Final

from tests.lab.openstack import configs
from tests.lab.openstack.processes import Processes


class Service(StrEnum):
    """A service that clients call."""

    KEYSTONE = "keystone"
    CINDER = "cinder-api"
    NOVA = "nova-api"


_PORTS: Final = {
    Service.KEYSTONE: configs.KEYSTONE,
    Service.CINDER: configs.CINDER,
    Service.NOVA: configs.NOVA,
}


class Outages:
    """The outages of a lab.

    Args:
        processes: Of the lab.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    @contextmanager
    def ended(self, *services: Service) -> Iterator[None]:
        """Let services accept no connections until the end of a `with` block."""
        self._processes.kill(*services)
        try:
            yield
        finally:
            self._processes.start(*services)
            for service in services:
                self._processes.await_port(service, _PORTS[service])

    @contextmanager
    def hanging(self, *services: Service) -> Iterator[None]:
        """Let services accept connections, but answer nothing, until the end of a `with` block."""
        self._processes.signal(SIGSTOP, *services)
        try:
            yield
        finally:
            self._processes.signal(SIGCONT, *services)

    def restart_database(self) -> None:
        """Restart MariaDB, which all connections to it notice."""
        self._processes.stop_databases()
        self._processes.start("mariadb")
        self._processes.await_port("mariadb", configs.MARIADB, configs.LOCAL)
