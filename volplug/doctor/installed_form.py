"""The form in which volplug is installed at an engine, plugin or service, and whether that is well."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from volplug.config import Settings
from volplug.doctor.docker_engine import EngineFacts, InstalledPlugin
from volplug.findings import Finding, Level

_SOCKETS: Final = Path("/run/docker/plugins")
_LATEST: Final = ":latest"
_STOP: Final = "systemctl stop volplug.service volplug.socket"
_START: Final = "systemctl start volplug.socket volplug.service"


@dataclass(frozen=True, slots=True)
class InstalledForm:
    """How volplug is installed at an engine.

    Attributes:
        drivers: Its names as a driver; the first is for commands.
        is_managed: Whether it is a managed plugin.
        is_served: Whether the engine has it as a driver.
        findings: What is wrong with that, or what is well.
        restart: The commands that restart it.
        forget: The commands that restart the engine while volplug does not run.
    """

    drivers: Sequence[str]
    is_managed: bool
    is_served: bool
    findings: Sequence[Finding]
    restart: str
    forget: str

    @property
    def driver(self) -> str:
        """Return its name for commands."""
        return self.drivers[0].removesuffix(_LATEST)


def installed_form(
    plugins: Sequence[InstalledPlugin], settings: Settings, facts: EngineFacts, run: Path
) -> InstalledForm:
    """Return how volplug is installed. Blocks.

    Args:
        plugins: The managed ones that are volplug.
        settings: With the service's socket, if it is a service.
        facts: Of the engine.
        run: The host's /run, with the sockets of services.
    """
    enabled = [plugin for plugin in plugins if plugin.is_enabled]
    if enabled:
        return _managed(
            enabled, [_judge_plugin(each, run, is_only=False) for each in plugins], is_served=True
        )
    names = _names_of_service(settings.socket, run)
    hiding = [each for each in plugins if each.name.removesuffix(_LATEST) == names[0]]
    is_served = bool(set(names) & set(facts.volume_drivers)) and not hiding
    if plugins and not is_served:
        findings = [_judge_plugin(each, run, is_only=True) for each in plugins]
        return _managed(plugins, findings, is_served=False)
    well = Finding("engine-driver", Level.GREEN, names[0], "Docker has this driver, a service")
    missing = Finding(
        "engine-driver",
        Level.RED,
        names[0],
        "Docker has no driver of this name",
        f"Start volplug, with its socket in {_SOCKETS}: {_START}; or install the plugin: see docs/install.md",
    )
    return InstalledForm(
        drivers=names,
        is_managed=False,
        is_served=is_served,
        findings=[well if is_served else missing],
        restart="systemctl restart volplug.service",
        forget=f"{_STOP}; systemctl restart docker; {_START}",
    )


def _managed(
    plugins: Sequence[InstalledPlugin], findings: Sequence[Finding], *, is_served: bool
) -> InstalledForm:
    name = plugins[0].name
    off, on = f"docker plugin disable --force {name}", _enable(name)
    return InstalledForm(
        drivers=[plugin.name for plugin in plugins],
        is_managed=True,
        is_served=is_served,
        findings=findings,
        restart=f"{off}; {on}",
        forget=f"{off}; systemctl restart docker; {on}",
    )


def _judge_plugin(plugin: InstalledPlugin, run: Path, *, is_only: bool) -> Finding:
    """Judge a plugin: whether it is enabled, and whether a service has its name.

    Of both, Docker uses the plugin, also while that is disabled.
    """
    service = f"docker/plugins/{plugin.name.removesuffix(_LATEST)}.sock"
    is_double = (run / service).exists()
    remove = f"docker plugin rm --force {plugin.name}"
    if not plugin.is_enabled:
        level = Level.RED if is_only else Level.YELLOW
        message = f"the plugin is disabled{', and hides the service of this name' if is_double else ''}"
        remedy = f"{_enable(plugin.name)}{f'; or, for the service, {remove}' if is_double else ''}"
    elif is_double:
        level, message = Level.YELLOW, f"Docker uses the plugin; a service has its name, too: /run/{service}"
        remedy = (
            "Remove one of them: systemctl disable --now volplug.socket volplug.service, "
            f"or docker plugin disable --force {plugin.name}; {remove}"
        )
    else:
        level, message, remedy = Level.GREEN, "the plugin is enabled", ""
    return Finding("managed-plugin", level, plugin.name, message, remedy)


def _names_of_service(socket: Path, run: Path) -> Sequence[str]:
    """Return the name of a socket as a driver, and those of links to it."""
    place = socket.relative_to(_SOCKETS) if socket.is_relative_to(_SOCKETS) else Path(socket.name)
    links = [
        link.name.removesuffix(".sock")
        for link in sorted((run / "docker/plugins").glob("*.sock"))
        if link.is_symlink() and os.readlink(link) in (socket.name, str(socket))
    ]
    return (str(place).removesuffix(".sock"), *links)


def _enable(name: str) -> str:
    return f"docker plugin enable --timeout 120 {name}"
