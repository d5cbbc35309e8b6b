"""What monitoring reads over HTTP: metrics, and whether this node can do its work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from http import HTTPStatus
from typing import Final

from aiohttp import web

from volplug.api import schemas
from volplug.api.routes import PROMETHEUS
from volplug.handlers.control.call import ApiAnswer, ReadCall
from volplug.handlers.control.errors import REQUEST_ID
from volplug.host.threads import Pool, pool_loads
from volplug.metrics import Metrics
from volplug.volumes.monitor import NodeGauges, NodeMonitor

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
        return {
            "getMetrics": self._get_metrics,
            "getHealth": self._get_health,
            "getReadiness": self._get_readiness,
        }

    async def _get_health(self, call: ReadCall) -> ApiAnswer:
        return ApiAnswer(schemas.HealthBody(status="ok"))

    async def _get_readiness(self, call: ReadCall) -> ApiAnswer:
        problems = await self._monitor.readiness.problems()
        body = schemas.ReadinessBody(ready=not problems, problems=list(problems))
        return ApiAnswer(body, HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK)

    async def _get_metrics(self, call: ReadCall) -> web.Response:
        gauges = await self._monitor.gauges()
        body = await self._pool.blocking(_rendered, deepcopy(self._monitor.metrics), gauges)
        return web.Response(body=body, headers={"Content-Type": _FORMAT, REQUEST_ID: call.request_id})


def _rendered(metrics: Metrics, gauges: NodeGauges) -> bytes:
    """Return all metrics; runs in a thread, because the import takes a while, and many volumes do."""
    from volplug.handlers.control.prometheus import rendered

    return rendered(metrics, gauges, pool_loads())
