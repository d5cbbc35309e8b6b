"""The composition root: the only place where objects are built, and the life of the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

from volplug import __version__
from volplug.config import Settings
from volplug.config.checks import (
    build_drivers,
    doubt_of,
    warn_of_scope,
    warn_of_unusable_backends,
    warn_of_variables,
)
from volplug.control_server import ControlServer
from volplug.drivers.base import Driver, Scope
from volplug.engine_peer import EngineProcesses
from volplug.errors import ConfigurationError, VolplugError, internal_error
from volplug.handlers.plugin import PluginHandler
from volplug.host import mountinfo
from volplug.host.machine import Machine
from volplug.host.process import reap_orphans, wait_for_programs
from volplug.host.threads import DevicePool, Pool
from volplug.log import configure_logging
from volplug.managed import HostPaths, host_paths, is_managed, unchanged
from volplug.metrics import Metrics
from volplug.server import STOP_TIMEOUT_S, EnginePeers, SocketServer, UnixSocket, stop_on_signals
from volplug.service_manager import ServiceManager
from volplug.sizes import parse_size
from volplug.state_dir import check_state_id, close_mount_root, lock_state_dir
from volplug.steps import OnStep, unannounced
from volplug.store.sqlite import Loaded, SqliteStore
from volplug.volumes.ledger import Ledger
from volplug.volumes.node import Deadlines, LocalNode
from volplug.volumes.operations import Operations
from volplug.volumes.options import Defaults
from volplug.volumes.service import VolumeService

if TYPE_CHECKING:
    from volplug.cluster.membership import ClusterListener, Membership

_LOG = structlog.get_logger(__name__)
_WORK_ENDS_S: Final = STOP_TIMEOUT_S - 1
_REAP_EVERY_S: Final = 5.0
_TRY_AGAIN_S: Final = 30.0
_CAP_SYS_ADMIN: Final = 21  # linux/capability.h
_STATUS: Final = Path("/proc/self/status")
_DEVICE_CALLS: Final = 64  # at once on the devices of one backend
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Hooks:
    """What this process reports its work to."""

    on_step: OnStep
    metrics: Metrics


def run(settings: Settings, on_step: OnStep = unannounced) -> None:
    """Serve until SIGTERM. Ends the process: a thread that hangs on a dead device must not keep it.

    Args:
        settings: Checked already.
        on_step: Told of every change of the world, on whatever thread makes it; for tests of crashes.

    Raises:
        VolplugError: If this process cannot serve at all.
    """
    os.umask(0o077)  # what is written here is for root alone
    _start_logging(settings.log_level, settings.log_format)
    warn_of_variables(settings)
    _check_may_mount()
    lock = lock_state_dir(settings.state_dir)
    hooks = _Hooks(on_step, Metrics())
    drivers = build_drivers(settings, on_step, hooks.metrics)
    warn_of_scope(drivers)
    plugin_socket = UnixSocket.of_plugin(settings.socket)
    loop = uvloop.new_event_loop()
    try:
        code = loop.run_until_complete(_serve(settings, drivers, plugin_socket, hooks))
    finally:
        plugin_socket.close()
    # Not loop.close(): that would cancel work which the next start can finish better than a cancellation.
    sys.stdout.flush()
    os.close(lock)
    os._exit(code)


def refuse(error: Exception, socket: Path) -> int:
    """Answer every call with an error: the end of the process would reach no user.

    Returns:
        The exit code, see `_refuse`.

    Raises:
        VolplugError: If not even that can be done.
    """
    _start_logging("info")
    plugin_socket = UnixSocket.of_plugin(socket)
    try:
        return uvloop.run(_refuse(error, plugin_socket, Scope.LOCAL.value))
    finally:
        plugin_socket.close()


async def _refuse(error: Exception, plugin_socket: UnixSocket, scope: str) -> int:
    """Answer every call with an error: until SIGTERM, or where systemd starts us anew, some time long.

    What was wrong may be right at the next start: a file on a disk that is mounted late, another process that
    has ended. Calls between two starts wait in systemd's socket.

    Returns:
        0 after SIGTERM, 1 where the next start is to try again.
    """
    reason = error if isinstance(error, VolplugError) else internal_error(error)
    for mistake in error.mistakes if isinstance(error, ConfigurationError) else ():
        _LOG.error("setting refused", error=str(mistake))
    _LOG.error("serving nothing", error=str(reason), exc_info=None if reason is error else error)
    stop = asyncio.Event()
    stop_on_signals(stop)
    server = _plugin_server(reason, scope, EngineProcesses())
    await server.start(plugin_socket)
    ServiceManager().ready("serving nothing, see the log")  # it answers, if only with the error
    try:
        async with asyncio.timeout(None if plugin_socket.is_ours else _TRY_AGAIN_S):
            await stop.wait()
        code = 0
    except TimeoutError:
        code = 1
    await server.stop()
    return code


def _start_logging(level: str, log_format: str = "text") -> None:
    configure_logging(level, log_format, is_managed=is_managed(), as_on_host=_host_paths())


def _host_paths() -> HostPaths:
    return host_paths(mountinfo.read()) if is_managed() else unchanged


def _plugin_server(core: VolumeService | VolplugError, scope: str, engines: EngineProcesses) -> SocketServer:
    identify = EnginePeers(engines).identify
    return SocketServer(PluginHandler(core, scope, identify, as_on_host=_host_paths()))


def _check_may_mount() -> None:
    """Check that this process may mount; without it everything else would work.

    Raises:
        ConfigurationError: If it may not.
    """
    status = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
    if not int(status["CapEff"], 16) >> _CAP_SYS_ADMIN & 1:
        raise ConfigurationError(
            f"this process, of user {os.geteuid()}, may not mount anything", "Run volplug as root"
        )


async def _serve(
    settings: Settings, drivers: dict[str, Driver], plugin_socket: UnixSocket, hooks: _Hooks
) -> int:
    stop = asyncio.Event()
    stop_on_signals(stop)
    reaping = asyncio.create_task(_reap_orphans()) if is_managed() else None
    engines = EngineProcesses()
    try:
        marker = settings.resolved_state_marker
        had_marker = check_state_id(settings.state_dir, marker)
        store = SqliteStore(settings.state_dir / "state.sqlite", _BOOT_ID.read_text(encoding="ascii").strip())
        loaded = await _load(store)
        names = {entry.name for entry in loaded.entries}
        close_mount_root(
            settings.resolved_mount_root, settings.state_dir, marker if had_marker else None, names
        )
        service = _build_service(settings, drivers, store, loaded, engines, hooks)
        await service.start()
    except Exception as error:
        return await _refuse(error, plugin_socket, _scope(drivers))
    server = _plugin_server(service, _scope(drivers), engines)
    await server.start(plugin_socket)
    control = ControlServer(
        settings,
        service,
        _host_paths(),
        is_managed=is_managed(),
        build_membership=partial(build_membership, settings, service),
    )
    await control.start()
    _LOG.info("ready", version=__version__, socket=str(settings.socket), backends=",".join(sorted(drivers)))
    service_manager = ServiceManager()
    service_manager.ready("serving")
    checking = asyncio.create_task(warn_of_unusable_backends(drivers))
    await stop.wait()
    _LOG.info("stopping")
    service_manager.stopping()
    checking.cancel()
    if reaping is not None:
        reaping.cancel()
    await _stop(server, control, service, store)
    return 0


async def _reap_orphans() -> None:
    """Do the duty of PID 1 now and then; the event loop keeps SIGCHLD for itself."""
    while True:
        await asyncio.sleep(_REAP_EVERY_S)
        reap_orphans()


async def _stop(
    server: SocketServer, control: ControlServer, service: VolumeService, store: SqliteStore
) -> None:
    """Answer what can be answered in time, detach what lingers; mounts stay, Docker's containers use them."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await asyncio.gather(
                server.stop(), control.stop(), wait_for_programs(_WORK_ENDS_S), service.stop(_WORK_ENDS_S)
            )
            if not service.is_working:
                await store.close()  # what works on still writes to it
                return
    _LOG.warning("stopped with work unfinished, the next start continues it")


async def _load(store: SqliteStore) -> Loaded:
    loaded = await store.load()
    if loaded.set_aside is not None:
        _LOG.error("the state file was damaged and is set aside", kept_as=str(loaded.set_aside))
    if loaded.dropped:
        _LOG.error("rows of the state file were damaged and are dropped", rows=loaded.dropped)
    return loaded


def _build_service(
    settings: Settings,
    drivers: dict[str, Driver],
    store: SqliteStore,
    loaded: Loaded,
    engines: EngineProcesses,
    hooks: _Hooks,
) -> VolumeService:
    mount_root, doubt = str(settings.resolved_mount_root), doubt_of(settings)
    on_step = hooks.on_step
    node = LocalNode(
        backends=drivers,
        default_backend=settings.default_backend,
        hosts={name: Machine(mount_root, DevicePool(name, _DEVICE_CALLS, name), on_step) for name in drivers},
        ledger=Ledger(store, loaded.entries, loaded.engine, on_step),
        mount_root=mount_root,
        boot_clock=lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        deadlines=Deadlines(
            slow_answer_s=settings.slow_answer_s,
            answer_s=settings.answer_s,
            linger_s=settings.linger_s,
            mount_grace_s=settings.mount_grace_s,
            release_wait_s=settings.release_wait_s,
        ),
        operations=Operations(kept=loaded.operations, metrics=hooks.metrics),
        operation_store=store,
        on_step=on_step,
        takeover=settings.takeover,
        doubt=doubt[0] if doubt is not None and doubt[1] else None,
        is_engine_alive=engines.is_alive,
        name=settings.node_id,
    )
    defaults = Defaults(
        fs_type=settings.default_fs,
        size_bytes=parse_size(settings.default_size) if settings.default_size else None,
        profiles=settings.profiles,
    )
    return VolumeService(node, defaults)


def build_membership(settings: Settings, service: VolumeService, listener: ClusterListener) -> Membership:
    """Build this host's membership in a cluster; imported here, since few hosts need it."""
    from volplug.cluster.membership import ClusterOptions, Membership
    from volplug.cluster.records import LifeRecord
    from volplug.config.cluster import etcd_access, listed_nodes

    since = datetime.now(UTC)

    def describe() -> LifeRecord:
        return LifeRecord(version=__version__, node_ids=dict(service.node().node_ids), since=since)

    options = ClusterOptions(
        name=settings.node_id.lower(),
        cluster=settings.cluster,
        address=settings.cluster_address,
        etcd=etcd_access(settings),
        nodes=listed_nodes(settings),
        state_dir=settings.state_dir,
    )
    return Membership(options, describe, listener, Pool("cluster", 2))


def _scope(drivers: dict[str, Driver]) -> str:
    """Return `global` if every backend is shared between hosts: Docker knows one scope per plugin."""
    is_global = all(driver.info.scope is Scope.GLOBAL for driver in drivers.values())
    return (Scope.GLOBAL if is_global else Scope.LOCAL).value
