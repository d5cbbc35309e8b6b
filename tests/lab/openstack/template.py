"""A cloud's first state, kept between runs: migrated databases, users, a flavor, an image, volume types.

Making it runs a whole cloud in a network of its own.
"""

import base64
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.lab import lane
from tests.lab.kept import kept
from tests.lab.namespaces import Namespaces
from tests.lab.openstack import accounts, configs, software, starting
from tests.lab.openstack.configs import LOCAL, CloudSite
from tests.lab.openstack.processes import MARIADB_OPTIONS, Processes
from tests.lab.programs import checked, find_program

_MAX_AGE_S: Final = 90 * 24 * 3600.0
_CODE: Final = ("accounts.py", "configs.py", "template.py")
# What a cloud begins with; a host's directory has its id at Nova.
_PARTS: Final = ("mysql", "keystone")
_MOVE: Final = "UPDATE keystone.endpoint SET url = REPLACE(url, '//{}:', '//{}:');\n"


def template(nodes: Sequence[str]) -> Path:
    """The directory of the first state of a cloud with these hosts; made if there is none."""
    code = [(Path(__file__).parent / name).read_text() for name in _CODE]
    version = subprocess.run([find_program("mariadbd"), "--version"], check=True, capture_output=True).stdout
    key = hashlib.sha256(repr([software.key(), version, tuple(nodes), code]).encode()).hexdigest()[:12]
    return kept("openstack-state", key, lambda directory: _make(directory, tuple(nodes)), _MAX_AGE_S)


def copy(source: Path, site: CloudSite) -> None:
    """Give a cloud that has not started yet its first state."""
    checked(
        subprocess.run(
            ["cp", "--archive", "--reflink=auto", f"{source}/.", str(site.directory)],
            check=False,
            capture_output=True,
            text=True,
        )
    )


def move(processes: Processes, site: CloudSite) -> None:
    """Replace the address in a copied first state by that of the cloud."""
    processes.sql(_MOVE.format(LOCAL, site.address))


def _make(target: Path, nodes: tuple[str, ...]) -> None:
    directory = lane.new_directory()  # a socket's path must be short
    site = CloudSite(directory, software.environment(), LOCAL, nodes, capacity_gb=1)
    network = Namespaces(directory)
    try:
        with ThreadPoolExecutor(1, initializer=network.enter_network) as inside:
            inside.submit(_fill, site).result()
        for part in (*_PARTS, *(f"nova-{node}" for node in nodes)):
            shutil.move(directory / part, target / part)
    finally:
        network.close()
        shutil.rmtree(directory)


def _fill(site: CloudSite) -> None:
    configs.write(site)
    install = [find_program("mariadb-install-db"), *MARIADB_OPTIONS, f"--datadir={site.directory}/mysql"]
    options = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    checked(subprocess.run([*install, *options], check=False, capture_output=True, text=True))
    with Processes(site) as processes:
        starting.infrastructure(processes)
        processes.sql("".join(_creation(database) for database in configs.DATABASES))
        with ThreadPoolExecutor(2) as two:
            nova = two.submit(_migrate_nova, processes)
            two.submit(_migrate_others, processes, site).result()
            processes.start("keystone")
            processes.await_port("keystone", configs.KEYSTONE)
            accounts.create(site)
            nova.result()
        starting.services(processes, site)
        accounts.create_resources(site)
        processes.manage("nova-manage", "cell_v2", "discover_hosts", configs=("nova", "nova-db"))
        processes.kill(*(name for name in processes.names() if name != "mariadb"))
        processes.stop_databases()


def _creation(database: str) -> str:
    return (
        f"CREATE DATABASE {database} CHARACTER SET utf8mb3;\n"
        f"GRANT ALL ON {database}.* TO 'os'@'%' IDENTIFIED BY 'os';\n"
    )


def _migrate_nova(processes: Processes) -> None:
    cell0 = f"--database_connection={configs.database_url('nova_cell0')}"
    for arguments in (
        ("api_db", "sync"),
        ("cell_v2", "map_cell0", cell0),
        ("db", "sync"),
        ("cell_v2", "create_cell", "--name=cell1"),
    ):
        processes.manage("nova-manage", *arguments, configs=("nova", "nova-db"))


def _migrate_others(processes: Processes, site: CloudSite) -> None:
    for kind in ("fernet", "credential"):
        keys = site.directory / "keystone" / kind
        keys.mkdir(parents=True)
        for key in ("0", "1"):  # the next one, and that which is used
            (keys / key).write_bytes(base64.urlsafe_b64encode(os.urandom(32)))
    url = f"{site.url(configs.KEYSTONE)}/v3/"
    urls = [f"--bootstrap-{each}-url={url}" for each in ("admin", "internal", "public")]
    password = f"--bootstrap-password={configs.USERS['admin'].password}"
    for arguments in (
        ["db_sync"],
        ["bootstrap", password, f"--bootstrap-region-id={configs.REGION}", *urls],
    ):
        processes.manage("keystone-manage", *arguments, configs=("keystone",))
    directory = {"OS_PLACEMENT_CONFIG_DIR": f"{site.directory}/etc"}
    processes.manage("placement-manage", "db", "sync", configs=("placement",), env=directory)
    processes.manage("cinder-manage", "db", "sync", configs=("cinder",))
    processes.manage("glance-manage", "db_sync", configs=("glance",))
