"""What monitoring reads over HTTP: metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Final

from aiohttp import web

from volplug.api.routes import PROMETHEUS
from volplug.handlers.control_call import ReadCall
from volplug.handlers.control_errors import REQUEST_ID
from volplug.host.threads import Pool, pool_loads
from volplug.metrics import Metrics
from volplug.volumes.monitor import NodeGauges, NodeMonitor

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from volplug.handlers.control_call import ApiAnswer

_FORMAT: Final = f"{PROMETHEUS}; version=0.0.4; charset=utf-8"


class MonitoringRoutes:
    """The handlers of the routes for monitoring.

    Args:
        monitor: Reads this node.
    """

    def __init__(self, monitor: NodeMonitor) -> None:
        self._monitor = monitor
        self._pool = Pool("metrics", 1)

    def handlers(self) -> Mapping[str, Callable[[ReadCall], Awaitable[ApiAnswer | web.StreamResponse]]]:
        """Return the handler of each route by its operation id."""
        return {"getMetrics": self._get_metrics}

    async def _get_metrics(self, call: ReadCall) -> web.Response:
        gauges = await self._monitor.gauges()
        body = await self._pool.blocking(_rendered, deepcopy(self._monitor.metrics), gauges)
        return web.Response(body=body, headers={"Content-Type": _FORMAT, REQUEST_ID: call.request_id})


def _rendered(metrics: Metrics, gauges: NodeGauges) -> bytes:
    """Return all metrics; runs in a thread, because the import takes a while, and many volumes do."""
    from volplug.handlers.prometheus import rendered

    return rendered(metrics, gauges, pool_loads())
