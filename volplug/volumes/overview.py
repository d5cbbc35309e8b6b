"""Overview: this node and its backends, as the control API shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from volplug import __version__
from volplug.drivers.base import Driver
from volplug.errors import BackendUnavailable, VolplugError, internal_error
from volplug.volumes.catalog import Catalog
from volplug.volumes.node import LocalNode
from volplug.volumes.views import BackendView, NodeView


class Overview:
    """Describes this node and its backends. Health checks that come together cost one call; none is kept."""

    def __init__(self, node: LocalNode, catalog: Catalog) -> None:
        self._node = node
        self._catalog = catalog
        self._checks: dict[str, asyncio.Task[VolplugError | None]] = {}

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
        """Describe all backends, the default one first; each is asked for its health and its volumes."""
        default = self._node.default_backend
        names = sorted(self._node.backends, key=lambda name: (name != default, name))
        listing = asyncio.create_task(self._catalog.list_all())
        problems = await self.problems()
        lists = await listing
        views = []
        for name in names:
            driver, volumes, problem = self._node.driver(name), lists[name], problems[name]
            count = None if isinstance(volumes, BaseException) else len(volumes)
            views.append(BackendView(name, driver.info, driver.node_id, name == default, problem, count))
        return views

    async def problems(self) -> Mapping[str, VolplugError | None]:
        """Return why each backend cannot be used, None for those that can; each is asked for its health."""
        names = list(self._node.backends)
        problems = await asyncio.gather(*(self._problem_of(name) for name in names))
        return dict(zip(names, problems, strict=True))

    async def _problem_of(self, backend: str) -> VolplugError | None:
        """Return why a backend cannot be used; None if it can."""
        check, timeout_s = self._checks.get(backend), self._node.deadlines.lookup_s
        if check is None:
            check = self._checks[backend] = asyncio.create_task(_check(self._node.driver(backend)))
            check.add_done_callback(lambda _: self._checks.pop(backend))
        done, _ = await asyncio.wait({check}, timeout=timeout_s)
        if not done:
            return BackendUnavailable(f"backend {backend} did not answer within {timeout_s:.0f} s")
        return check.result()


async def _check(driver: Driver) -> VolplugError | None:
    try:
        await driver.health()
    except VolplugError as error:
        return error
    except Exception as error:  # a bug of one driver must not hide the other backends
        return internal_error(error)
    return None
