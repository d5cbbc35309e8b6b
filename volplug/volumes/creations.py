"""Creating volumes: idempotent by name, also where another host is faster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from volplug.errors import Unsupported, VolumeExists
from volplug.models import VolumeState
from volplug.volumes.convergence import Goal
from volplug.volumes.job import Conditions
from volplug.volumes.ledger import Desired
from volplug.volumes.lookups import Lookups
from volplug.volumes.options import Defaults, Request, check_same, chosen_backend, read_options
from volplug.volumes.site import Site

_UNFINISHED: Final = frozenset({VolumeState.INCOMPLETE, VolumeState.CREATING, VolumeState.ERROR})


class Creations:
    """What Create does."""

    def __init__(self, site: Site, defaults: Defaults, lookups: Lookups) -> None:
        self._site = site
        self._defaults = defaults
        self._lookups = lookups

    async def create(self, name: str, options: Mapping[str, str]) -> None:
        """Provision a volume; one that exists and is the same is success.

        Raises:
            VolumeExists: If one exists and differs, or another backend has one of this name.
        """
        site = self._site
        backend = chosen_backend(options) or site.default_backend
        request = self._read(name, options, backend)
        async with site.slots.of(name):
            self._lookups.forget(name)
            existing = await self._lookups.find(name)
            if existing is not None and existing.backend != backend:
                if "backend" in request.explicit:
                    raise VolumeExists(
                        f"backend {existing.backend} has one of this name", "Choose another name"
                    )
                backend = existing.backend
                request = self._read(name, options, backend)
            if existing is not None and existing.state is not VolumeState.DELETING:
                check_same(request, existing)
                if existing.state not in _UNFINISHED:
                    await site.ledger.remember(existing)
                    return
                request = replace(request, spec=existing.spec)
            await self._check_can_format(backend, request.spec.fs_type)
            conditions = Conditions(spec=request.spec, is_absent=existing is None)
            try:
                await site.converge("create", name, backend, Goal.PRESENT, conditions)
            except VolumeExists as error:
                await self._accept_the_others(request, backend, error)
            finally:
                await self._withdraw(name, Desired.PRESENT)
                self._lookups.forget(name)

    async def _accept_the_others(self, request: Request, backend: str, error: VolumeExists) -> None:
        """Accept the volume of another host that was faster, if it is what was asked for here."""
        self._lookups.forget(request.spec.name)
        existing = await self._lookups.find(request.spec.name, backend)
        if existing is None or existing.state in {VolumeState.ERROR, VolumeState.DELETING}:
            raise error
        check_same(request, existing)
        await self._site.ledger.remember(existing)

    def _read(self, name: str, options: Mapping[str, str], backend: str) -> Request:
        driver = self._site.driver(backend)
        request = read_options(name, options, driver.info, self._defaults)
        driver.check_spec(request.spec)
        return request

    async def _check_can_format(self, backend: str, fs_type: str) -> None:
        installed = await self._site.host(backend).filesystems()
        if fs_type not in installed:
            there = f"Install it, or use one of {', '.join(installed)}" if installed else "Install it"
            raise Unsupported(f"mkfs.{fs_type} is not installed on this host", there)

    async def _withdraw(self, name: str, desired: Desired) -> None:
        """End a desire that is reached or was answered with an error: nobody waits for it any more."""
        entry = self._site.ledger.get(name)
        if entry is not None and entry.desired is desired:
            before = Desired.MOUNTED if entry.is_claimed else Desired.NONE
            await self._site.ledger.put(replace(entry, desired=before))
