"""The processes of a cloud: MariaDB, RabbitMQ and OpenStack's services, which end together."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, Signals
from types import TracebackType
from typing import Final, Self

from tests.lab.namespaces import Namespaces
from tests.lab.openstack import configs, software
from tests.lab.openstack.configs import LOCAL, CloudSite
from tests.lab.programs import checked, clean_environment, find_program, settled, tail
from tests.lab.waiting import WaitTimeoutError, wait_until

# What a service of Nova writes when it serves.
JOINED: Final = "Join ServiceGroup membership"
MARIADB_OPTIONS: Final = ("--no-defaults", "--user=root", "--innodb-log-file-size=16M")
_REPOSITORY = Path(__file__).parents[3]
_SERVICES: Final = f"{__package__}.services"
_START_TIMEOUT_S: Final = 120.0
_END_TIMEOUT_S: Final = 30.0
_MANAGE_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True)
class Program:
    """The command of a process, and variables of its environment."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


def compute_of(node: str) -> str:
    """The name of the process of a host's nova-compute."""
    return f"nova-compute-{node}"


class Processes:
    """The processes of one cloud, in namespaces of their own, with the network of the thread that enters.

    Args:
        site: Where the cloud is.
    """

    def __init__(self, site: CloudSite) -> None:
        self._site = site
        self._programs = _programs(site)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._begins: dict[str, int] = {}

    def __enter__(self) -> Self:
        # A lane's name is a number, which is no name of a host for the services.
        self._namespaces = Namespaces(self._site.directory, in_lane=True, hostname="cloud")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._namespaces.close()

    def start(self, *names: str) -> None:
        """Start processes."""
        for name in names:
            program = self._programs[name]
            with self.log(name).open("ab") as log:
                self._begins[name] = log.tell()
                environment = _environment(program.env)
                self._running[name] = self._namespaces.popen(
                    program.argv, env=environment, stdout=log, stderr=log
                )

    def kill(self, *names: str) -> None:
        """End processes and their workers by SIGKILL; those that do not run are skipped."""
        running = [self._running.pop(name) for name in names if name in self._running]
        workers = [worker for process in running for worker in _workers(process.pid)]
        for process in running:
            process.kill()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, SIGKILL)
        for process in running:
            settled(process, _END_TIMEOUT_S)
        wait_until(lambda: not any(map(_runs, workers)), _END_TIMEOUT_S, "the workers have ended")

    def signal(self, number: Signals, *names: str) -> None:
        """Send a signal to processes and their workers."""
        for name in names:
            process = self._running[name]
            for pid in (process.pid, *_workers(process.pid)):
                os.kill(pid, number)

    def is_running(self, name: str) -> bool:
        """Return whether a process has been started and has not ended."""
        return name in self._running and self._running[name].poll() is None

    def names(self) -> list[str]:
        """Return the names of the processes that have been started and not killed."""
        return list(self._running)

    def log(self, name: str) -> Path:
        """Return the file with the output of all starts of a process."""
        return _log(self._site, name)

    def await_port(self, name: str, port: int, address: str = "") -> None:
        """Wait until a process accepts connections; RuntimeError with its last lines if it ends."""

        def accepts() -> bool:
            self._check(name)
            try:
                socket.create_connection((address or self._site.address, port), timeout=1).close()
            except OSError:
                return False
            return True

        self._await(name, accepts)

    def await_line(self, name: str, text: str) -> None:
        """Wait until a process has written a text to its log since its start."""

        def has_written() -> bool:
            self._check(name)
            return text.encode() in self.log(name).read_bytes()[self._begins[name] :]

        self._await(name, has_written)

    def sql(self, text: str) -> None:
        """Execute statements as the databases' superuser."""
        client = ("mariadb", "--no-defaults", f"--socket={self._site.directory}/mysql.sock", "--user=root")
        checked(self._namespaces.run(client, env=_environment({}), input_bytes=text.encode()))

    def stop_databases(self) -> None:
        """Stop MariaDB so that its files are complete."""
        self.sql("SHUTDOWN;")
        settled(self._running.pop("mariadb"), _END_TIMEOUT_S)

    def manage(self, tool: str, *arguments: str, configs: Sequence[str], env: Mapping[str, str] = {}) -> None:
        """Run a tool of the services, such as nova-manage.

        Args:
            tool: Its name.
            arguments: Of its command.
            configs: The names of its configuration files.
            env: Variables of its environment.
        """
        command = _command(self._site, tool, *configs)
        argv = [*command, *arguments]
        checked(self._namespaces.run(argv, env=_environment(env), timeout_s=_MANAGE_TIMEOUT_S))

    def run(self, *argv: str) -> None:
        """Run a program, which has to succeed."""
        checked(self._namespaces.run(argv, env=_environment({})))

    def _check(self, name: str) -> None:
        if not self.is_running(name):
            raise RuntimeError(f"{name} has ended:\n{tail(self.log(name))}")

    def _await(self, name: str, condition: Callable[[], bool]) -> None:
        try:
            wait_until(condition, _START_TIMEOUT_S, f"{name} is ready")
        except WaitTimeoutError as error:
            raise RuntimeError(f"{error}; its output:\n{tail(self.log(name))}") from None


def _workers(pid: int) -> list[int]:
    """The children of a process; an API serves in one."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _log(site: CloudSite, name: str) -> Path:
    return site.directory / "log" / f"{name}.log"


def _environment(additional: Mapping[str, str]) -> dict[str, str]:
    # Without settings of a user's own cloud; with this repository, for the code of `services`.
    clean = clean_environment(PYTHONPATH=str(_REPOSITORY), PYTHONWARNINGS="ignore")
    return {key: value for key, value in clean.items() if not key.startswith("OS_")} | dict(additional)


def _command(site: CloudSite, tool: str, *names: str) -> list[str]:
    """The command of an installed tool; its first line names a path where the environment was not kept."""
    binaries = site.environment / "bin"
    options = [f"--config-file={site.config(name)}" for name in names]
    return [str(binaries / "python"), str(binaries / tool), *options]


def _programs(site: CloudSite) -> dict[str, Program]:
    nova = ("nova", "nova-db")
    python = str(site.environment / "bin" / "python")
    wsgi = [python, "-m", f"{_SERVICES}.wsgi"]
    return {
        **_infrastructure(site),
        "keystone": Program(
            [*wsgi, "keystone.wsgi.api", site.address, str(configs.KEYSTONE)],
            {"OS_KEYSTONE_CONFIG_FILES": site.config("keystone")},
        ),
        "placement": Program(
            [*wsgi, "placement.wsgi.api", site.address, str(configs.PLACEMENT)],
            {"OS_PLACEMENT_CONFIG_DIR": f"{site.directory}/etc"},
        ),
        "network": Program([python, "-m", f"{_SERVICES}.no_network", site.address, str(configs.NEUTRON)]),
        "glance": Program(_command(site, "glance-api", "glance")),
        "cinder-api": Program(_command(site, "cinder-api", "cinder")),
        "cinder-scheduler": Program(_command(site, "cinder-scheduler", "cinder")),
        "cinder-volume": Program(_command(site, "cinder-volume", "cinder")),
        "nova-conductor": Program(_command(site, "nova-conductor", *nova)),
        "nova-scheduler": Program(_command(site, "nova-scheduler", *nova)),
        "nova-api": Program(_command(site, "nova-api-os-compute", *nova)),
        **{compute_of(node): Program(_compute(site, node)) for node in site.nodes},
    }


def _compute(site: CloudSite, node: str) -> list[str]:
    files = [f"--config-file={site.config(name)}" for name in ("nova", f"nova-{node}")]
    conductor = [str(_log(site, "nova-conductor")), JOINED]
    return [str(site.environment / "bin" / "python"), "-m", f"{_SERVICES}.compute", *conductor, *files]


def _infrastructure(site: CloudSite) -> dict[str, Program]:
    directory = site.directory
    erlang = {
        "HOME": str(directory / "rabbitmq"),
        "ERL_EPMD_ADDRESS": LOCAL,
        "ERL_CRASH_DUMP_BYTES": "0",
    }
    return {
        "mariadb": Program(
            [
                find_program("mariadbd"),
                *MARIADB_OPTIONS,
                f"--datadir={directory}/mysql",
                f"--socket={directory}/mysql.sock",
                f"--pid-file={directory}/mysql.pid",
                f"--bind-address={LOCAL}",
                f"--port={configs.MARIADB}",
                "--skip-name-resolve",
                "--skip-log-bin",
                "--max-connections=300",
                "--performance-schema=off",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-doublewrite=0",
                "--innodb-buffer-pool-size=64M",
                "--character-set-server=utf8mb3",
            ]
        ),
        "epmd": Program([find_program("epmd"), "-address", LOCAL, "-port", str(configs.EPMD)]),
        "rabbitmq": Program(
            [str(software.RABBITMQ)],
            {
                **erlang,
                "RABBITMQ_NODENAME": "volplug@localhost",
                "RABBITMQ_MNESIA_BASE": str(directory / "rabbitmq"),
                "RABBITMQ_LOG_BASE": str(directory / "log"),
                "RABBITMQ_PID_FILE": str(directory / "rabbitmq.pid"),
                "RABBITMQ_CONFIG_FILE": site.config("rabbitmq"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "etc" / "rabbitmq-plugins"),
                "RABBITMQ_DIST_PORT": str(configs.RABBITMQ_NODES),
                "ERL_EPMD_PORT": str(configs.EPMD),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                    f"-kernel inet_dist_use_interface {{{LOCAL.replace('.', ',')}}} +S 1:1"
                ),
            },
        ),
    }
