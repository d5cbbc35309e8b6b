"""The software of the lab: OpenStack's services in an environment of their own, kept between runs.

MariaDB and RabbitMQ are the machine's (scripts/system-packages). OpenStack comes from the package index, in
the versions of requirements.lock, because distributions' packages start services and differ from each other.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab import lane
from tests.lab.kept import kept
from tests.lab.programs import checked, clean_environment

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # that in /usr/sbin changes the user
_PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb", "epmd", "losetup")
_LOCK = Path(__file__).with_name("requirements.lock")
_MAX_AGE_S = 365 * 24 * 3600.0
# oslo.messaging before 18 waits for the answer of a call in steps of half a second, of which an attach takes
# eight: https://bugs.launchpad.net/oslo.messaging/+bug/2035113
_SLOW_WAIT, _QUICK_WAIT = "time.sleep(0.5)", "time.sleep(0.01)"


def missing() -> str:
    """Why the lab cannot run here, in one line; empty if it can."""
    if os.geteuid() != 0:
        return "needs root"
    path = clean_environment()["PATH"]
    absent = [program for program in _PROGRAMS if shutil.which(program, path=path) is None]
    absent += [] if RABBITMQ.exists() else ["rabbitmq-server"]
    return f"not installed: {', '.join(absent)} (make setup as root)" if absent else ""


@functools.cache
def environment() -> Path:
    """The virtual environment of the services; made if there is none, which takes half a minute."""
    return kept("openstack", key(), _make, _MAX_AGE_S) / "venv"


def key() -> str:
    """A key for the installed software."""
    return hashlib.sha256(f"{sys.version} {_LOCK.read_text()} {_QUICK_WAIT}".encode()).hexdigest()[:12]


def _make(target: Path) -> None:
    python = target / "venv" / "bin" / "python"
    _run(sys.executable, "-m", "venv", str(target / "venv"))
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run(str(python), *pip, "--constraint", str(_LOCK), "uv")
    # Not by pip, which takes minutes for so many packages.
    uv = ["-m", "uv", "pip", "install", "--quiet", f"--python={python}", "--compile-bytecode", "--no-deps"]
    _run(str(python), *uv, f"--requirement={_LOCK}")
    messaging = next(target.glob("venv/lib/python*/site-packages/oslo_messaging/_drivers/amqpdriver.py"))
    source = messaging.read_text()
    assert _SLOW_WAIT in source
    messaging.write_text(source.replace(_SLOW_WAIT, _QUICK_WAIT))


def _run(*command: str) -> None:
    argv = [*lane.with_network_outside(), *command]
    checked(subprocess.run(argv, check=False, capture_output=True, text=True, env=clean_environment()))
