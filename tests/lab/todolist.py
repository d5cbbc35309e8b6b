"""The images of examples/todolist, made without a registry: with Debian's MariaDB in place of MySQL."""

import shutil
import subprocess
from pathlib import Path

from tests.lab.compose import bookworm
from tests.lab.engine import Engine
from tests.lab.programs import checked

TODOLIST = Path(__file__).parents[2] / "examples/todolist"

_ENTRYPOINT = Path(__file__).with_name("database_entrypoint.sh")
# Without the database that Debian's package creates, the image is as empty as the official one.
_LEFT_OUT = ["var/lib/mysql/*", "var/lib/apt/*", "var/cache/*", "usr/share/doc/*", "usr/share/locale/*"]
_TIMEOUT_S = 300.0


def import_images(engine: Engine) -> dict[str, str]:
    """Make both images; return the variables that name them in compose.yaml."""
    ours = engine.directory / "todolist"
    ours.mkdir()
    shutil.copy(TODOLIST / "app.py", ours / "app.py")
    shutil.copy(_ENTRYPOINT, ours / "entrypoint")
    archive = engine.directory / "todolist.tar"
    excluded = [f"--exclude=./{path}" for path in _LEFT_OUT]
    command = ["tar", "--create", f"--file={archive}", f"--directory={bookworm()}", *excluded, "."]
    command += [f"--directory={ours}", "app.py", "entrypoint"]
    checked(subprocess.run(command, check=False, capture_output=True, text=True))
    engine.docker("import", str(archive), "debian:local", timeout_s=_TIMEOUT_S)
    archive.unlink()
    _commit(engine, "mysql:local", ['ENTRYPOINT ["sh", "/entrypoint"]'])
    dockerfile = (TODOLIST / "Dockerfile").read_text().splitlines()
    _commit(engine, "todolist:local", [line for line in dockerfile if line.startswith(("CMD", "USER"))])
    return {"MYSQL_IMAGE": "mysql:local", "TODOLIST_IMAGE": "todolist:local"}


def _commit(engine: Engine, image: str, changes: list[str]) -> None:
    """Make an image of the imported one with lines of a Dockerfile."""
    container = engine.docker("create", "debian:local", "true").stdout.strip()
    engine.docker("commit", *(f"--change={line}" for line in changes), container, image)
    engine.docker("rm", container)
