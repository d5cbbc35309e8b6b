"""Images without a registry: a root file system as a tar archive for `docker import`."""

import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tests.lab.programs import find_program

_DIRECTORIES = {"bin": 0o755, "data": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777}
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"


class DockerCommand(Protocol):
    """How a lab runs the docker command."""

    def __call__(self, *args: str, input: bytes | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run it; an error if it fails."""
        ...


def import_image(docker: DockerCommand, name: str, files: Mapping[str, bytes], *changes: str) -> str:
    """Make an image of busybox and ``files`` (path to content), with Dockerfile lines as ``changes``."""
    options = [word for change in changes for word in ("--change", change)]
    docker("import", *options, "-", name, input=busybox_archive(files))
    return name


def busybox_archive(files: Mapping[str, bytes] | None = None) -> bytes:
    """A root file system of busybox with every applet in /bin, and ``files`` (path to content) on top."""
    busybox = Path(find_program("busybox"))
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, mode in _DIRECTORIES.items():
            _add_directory(archive, name, mode)
        _add_file(archive, "bin/busybox", busybox.read_bytes(), 0o755)
        for applet in _applets(busybox):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        _add_file(archive, "etc/passwd", _PASSWD, 0o644)
        _add_file(archive, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
        _add_content(archive, files or {})
    return output.getvalue()


def _applets(busybox: Path) -> list[str]:
    listed = subprocess.run([str(busybox), "--list"], check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.split() if name != "busybox"]


def _add_content(archive: tarfile.TarFile, files: Mapping[str, bytes]) -> None:
    known = set(_DIRECTORIES)
    for name, content in files.items():
        relative = name.lstrip("/")
        for parent in reversed(Path(relative).parents[:-1]):
            if str(parent) not in known:
                _add_directory(archive, str(parent), 0o755)
                known.add(str(parent))
        _add_file(archive, relative, content, 0o644)


def _add_directory(archive: tarfile.TarFile, name: str, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    archive.addfile(entry)


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
