"""Overview: this node and its backends, as the control API shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from volplug import __version__
from volplug.drivers.base import BackendLimit, ReportsLimits
from volplug.errors import BackendUnavailable, VolplugError, internal_error
from volplug.volumes.catalog import Catalog
from volplug.volumes.node import LocalNode
from volplug.volumes.views import BackendView, NodeView

_LOG = structlog.get_logger(__name__)
_T = TypeVar("_T")


class Overview:
    """Describes this node and its backends. Questions that come together cost one call; no answer is kept."""

    def __init__(self, node: LocalNode, catalog: Catalog) -> None:
        self._node = node
        self._catalog = catalog
        self._checks: dict[str, asyncio.Task[VolplugError | None]] = {}
        self._readings: dict[str, asyncio.Task[Sequence[BackendLimit] | None]] = {}

    def node(self) -> NodeView:
        """Describe this node, from memory."""
        node, entries = self._node, self._node.ledger.entries()
        return NodeView(
            name=node.name,
            version=__version__,
            node_ids={name: driver.node_id for name, driver in node.backends.items()},
            has_engine=node.ledger.engine is not None,
            volumes_in_use=sum(entry.is_claimed for entry in entries),
            volumes_attached=sum(entry.is_busy for entry in entries),
            operations_running=len(node.operations.running),
        )

    async def backends(self) -> Sequence[BackendView]:
        """Describe all backends, the default one first; each is asked for health, limits and volumes."""
        default = self._node.default_backend
        names = sorted(self._node.backends, key=lambda name: (name != default, name))
        listing = asyncio.create_task(self._catalog.list_all())
        problems, limits = await asyncio.gather(
            self.problems(), asyncio.gather(*(self._limits_of(name) for name in names))
        )
        lists = await listing
        views = []
        for name, known in zip(names, limits, strict=True):
            driver, volumes, problem = self._node.driver(name), lists[name], problems[name]
            count = None if isinstance(volumes, BaseException) else len(volumes)
            views.append(
                BackendView(name, driver.info, driver.node_id, name == default, problem, count, known)
            )
        return views

    async def problems(self) -> Mapping[str, VolplugError | None]:
        """Return why each backend cannot be used, None for those that can; each is asked for its health."""
        names = list(self._node.backends)
        problems = await asyncio.gather(*(self._problem_of(name) for name in names))
        return dict(zip(names, problems, strict=True))

    async def _problem_of(self, backend: str) -> VolplugError | None:
        """Return why a backend cannot be used; None if it can."""
        timeout_s = self._node.deadlines.lookup_s
        check = await self._ended(self._checks, backend, self._check)
        if check is None:
            return BackendUnavailable(f"backend {backend} did not answer within {timeout_s:.0f} s")
        return check.result()

    async def _limits_of(self, backend: str) -> Sequence[BackendLimit] | None:
        """Return the limits of a backend; None if they cannot be read."""
        reading = await self._ended(self._readings, backend, self._read_limits)
        return None if reading is None else reading.result()

    async def _ended(
        self,
        running: dict[str, asyncio.Task[_T]],
        backend: str,
        ask: Callable[[str], Coroutine[Any, Any, _T]],
    ) -> asyncio.Task[_T] | None:
        """Wait for the question to a backend that runs, or begin it; None if it does not end in time."""
        task = running.get(backend)
        if task is None:
            task = running[backend] = asyncio.create_task(ask(backend))
            task.add_done_callback(lambda _: running.pop(backend))
        done, _ = await asyncio.wait({task}, timeout=self._node.deadlines.lookup_s)
        return task if done else None

    async def _check(self, backend: str) -> VolplugError | None:
        try:
            await self._node.driver(backend).health()
        except VolplugError as error:
            return error
        except Exception as error:  # a bug of one driver must not hide the other backends
            return internal_error(error)
        return None

    async def _read_limits(self, backend: str) -> Sequence[BackendLimit] | None:
        driver = self._node.driver(backend)
        if not isinstance(driver, ReportsLimits):
            return ()
        try:
            return await driver.limits()
        except Exception as error:  # a backend whose limits cannot be read may be usable
            _LOG.warning("limits not read", backend=backend, error=str(error))
            return None
