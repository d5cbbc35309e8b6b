"""A registry on the loopback interface of an engine's network, where docker allows plain HTTP."""

import subprocess
from types import TracebackType
from typing import Self

from tests.lab.engine import Engine
from tests.lab.programs import settled, tail
from tests.lab.trees import tree
from tests.lab.waiting import wait_until

_CONFIG = """\
version: 0.1
storage: {inmemory: {}}
http: {addr: "127.0.0.1:5000"}
"""
_READY_TIMEOUT_S = 30.0


class Registry:
    """Debian's docker-registry, with everything in memory.

    Attributes:
        address: the prefix of names of images and plugins.
    """

    address = "127.0.0.1:5000"

    def __init__(self, engine: Engine) -> None:
        """Describe a registry; nothing runs before ``with``."""
        self._engine = engine
        self._log = engine.directory / "registry.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # From a tree, because installing the package starts a registry on the machine.
        program = tree("bookworm", include=["docker-registry"]) / "usr/bin/docker-registry"
        config = self._engine.directory / "registry.yml"
        config.write_text(_CONFIG)
        self._process = self._engine.spawn([str(program), "serve", str(config)], log=self._log)
        wait_until(self._listens, _READY_TIMEOUT_S, "the registry listens")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        settled(self._process, _READY_TIMEOUT_S)

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the registry ended while starting:\n{tail(self._log)}")
        return "listening on" in self._log.read_text()
