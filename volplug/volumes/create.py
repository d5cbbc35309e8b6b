"""Create: idempotent by name, also where another host creates the same volume at the same time."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any, Final

from volplug.errors import ConfigurationError, UnexpectedState, Unsupported, VolumeExists
from volplug.models import Volume, VolumeState
from volplug.volumes.catalog import Catalog
from volplug.volumes.converge import Converger
from volplug.volumes.converge_request import ConvergeRequest
from volplug.volumes.decision import Goal
from volplug.volumes.ledger import Desired
from volplug.volumes.node import LocalNode
from volplug.volumes.operations import Operation
from volplug.volumes.options import CreateRequest, Defaults, ResolvedCreation, check_same, resolve

_UNFINISHED: Final = frozenset({VolumeState.INCOMPLETE, VolumeState.CREATING, VolumeState.ERROR})


def request_to_json(request: CreateRequest) -> str:
    """Return a request as JSON, without what was not given."""
    given = {each.name: getattr(request, each.name) for each in fields(request)}
    given["driver_options"] = dict(request.driver_options)
    return json.dumps({key: value for key, value in given.items() if value is not None})


def request_from_json(text: str) -> CreateRequest:
    """Read a request.

    Raises:
        UnexpectedState: If another version of volplug wrote it.
    """
    try:
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()
        }
        return CreateRequest(**given)
    except (ValueError, TypeError, AttributeError) as error:
        raise UnexpectedState("the request cannot be read") from error


class Creator:
    """Creates volumes."""

    def __init__(self, node: LocalNode, converger: Converger, catalog: Catalog, defaults: Defaults) -> None:
        self._node = node
        self._converger = converger
        self._catalog = catalog
        self._defaults = defaults

    async def create(self, request: CreateRequest, operation: Operation) -> None:
        """Provision a volume; one that exists and is the same is success.

        Raises:
            VolumeExists: If one exists and differs, or another backend has one of this name.
            ConfigurationError: If it is doubtful that the default backend is the expected one.
        """
        node, name = self._node, request.name
        backend = request.backend or node.default_backend
        if not request.backend:
            await self._refuse_doubtful()
        creation = self._resolve(request, backend)
        async with node.locks.of(name):
            self._catalog.invalidate(name)
            existing = await self._catalog.find(name)
            if existing is not None and existing.backend != backend:
                if request.backend:
                    raise _of_other_backend(existing)
                backend = existing.backend
                creation = self._resolve(request, backend)
            if existing is not None and existing.state is not VolumeState.DELETING:
                check_same(creation, existing)
                if existing.state not in _UNFINISHED:
                    await node.ledger.remember(existing)
                    return
                creation = replace(creation, spec=existing.spec)
            if not node.driver(backend).info.own_filesystem:
                await self._check_can_format(backend, creation.spec.fs_type)
            try:
                await self._converger.converge(
                    ConvergeRequest(
                        operation=operation,
                        name=name,
                        backend=backend,
                        goal=Goal.PRESENT,
                        spec=creation.spec,
                        known_absent=existing is None,
                        check_wanted=operation.check_wanted,
                    )
                )
            except VolumeExists as error:
                await self._accept_other_hosts(creation, backend, error)
            finally:
                await self._end_desire(name)
                self._catalog.invalidate(name)

    def check_same(self, request: CreateRequest, existing: Volume) -> None:
        """Check that a volume is what was asked for.

        Raises:
            VolumeExists: If it differs, or is in another backend than the one asked for.
        """
        if request.backend not in ("", existing.backend):
            raise _of_other_backend(existing)
        check_same(self._resolve(request, existing.backend), existing)

    async def _refuse_doubtful(self) -> None:
        """Refuse the default backend if it is in doubt; volumes in it show that it is used on purpose."""
        doubt = self._node.doubt
        if doubt is not None and not await self._node.driver(self._node.default_backend).list():
            raise ConfigurationError(doubt.cause, doubt.remedy)

    async def _accept_other_hosts(
        self, creation: ResolvedCreation, backend: str, error: VolumeExists
    ) -> None:
        """Accept the volume of another host that was faster, if it is what was asked for here."""
        name = creation.spec.name
        self._catalog.invalidate(name)
        existing = await self._catalog.find(name, backend)
        if existing is None or existing.state in {VolumeState.ERROR, VolumeState.DELETING}:
            raise error
        check_same(creation, existing)
        await self._node.ledger.remember(existing)

    def _resolve(self, request: CreateRequest, backend: str) -> ResolvedCreation:
        driver = self._node.driver(backend)
        creation = resolve(request, driver.info, self._defaults)
        driver.check_spec(creation.spec)
        return creation

    async def _check_can_format(self, backend: str, fs_type: str) -> None:
        installed = await self._node.host(backend).filesystems()
        if fs_type not in installed:
            there = f"Install it, or use one of {', '.join(installed)}" if installed else "Install it"
            raise Unsupported(f"mkfs.{fs_type} is not installed on this host", there)

    async def _end_desire(self, name: str) -> None:
        """End the desire for a volume that could not be created: its caller was told of the failure."""
        entry = self._node.ledger.get(name)
        if entry is not None and entry.desired is Desired.PRESENT:
            before = Desired.MOUNTED if entry.is_claimed else Desired.NONE
            await self._node.ledger.put(replace(entry, desired=before))


def _of_other_backend(existing: Volume) -> VolumeExists:
    return VolumeExists(f"backend {existing.backend} has a volume of this name", "Choose another name")
