"""The managed plugin dies between a change and its answer: the engine starts it again, nothing is lost.

The test makes the calls that Docker would make: Docker itself repeats one that was cut off, in vain for 15 s,
and leaves further attempts to its user.
"""

import contextlib
import json

import pytest

from tests.dockerd import Dockerd
from tests.engine.pairs import MANAGED
from tests.engine.use import mounted, wait_until_released
from tests.lab.engine import Engine
from tests.lab.managed import ManagedVolplug
from volplug.steps import WorldStep

pytestmark = [MANAGED, pytest.mark.faults]

# In a call that Docker repeats, and in the background; tests/faults kills the service at every step.
_DEFAULT = {WorldStep.MOUNT, WorldStep.DETACH}
# These need a second host, a volume that was not unmounted, and a client of the control API.
_OTHERS = {WorldStep.FENCE, WorldStep.TAKE_OVER, WorldStep.CHECK_FILESYSTEM, WorldStep.OPERATION_WRITTEN}


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=[] if step in _DEFAULT else pytest.mark.slow)
        for step in WorldStep
        if step not in _OTHERS
    ],
)
async def test_killed_at_a_step_it_is_started_again_and_continues(
    own_engine: Engine, step: WorldStep
) -> None:
    # It ends with its engine, which takes long to disable a plugin that has died once.
    plugin = ManagedVolplug(own_engine, name=f"dies-at-{step}", dies_at=step).install().start()
    await _call(own_engine, plugin, "Create", Opts={"size": "16MiB"})
    for text in ("first", "second"):
        await _call(own_engine, plugin, "Mount", ID=text)
        (place,) = mounted(own_engine, plugin)
        data = own_engine.path(place) / "data"
        kept = {path.name for path in data.iterdir()}
        (data / text).touch()
        await _call(own_engine, plugin, "Unmount", ID=text)
        wait_until_released(own_engine, plugin)
    assert kept == {"first"}
    await _call(own_engine, plugin, "Remove")
    assert plugin.start().log_text.count("event=ready") == 2


async def _call(engine: Engine, plugin: ManagedVolplug, verb: str, **body: object) -> None:
    """Make a call that has to succeed; repeat it if the plugin dies during it."""
    request = json.dumps({"Name": "db", **body}).encode()
    reply = None
    for _ in range(2):
        plugin.start()
        async with Dockerd(engine.path(plugin.socket)) as dockerd:
            with contextlib.suppress(OSError):  # it died before we could connect
                reply = await dockerd.raw(f"/VolumeDriver.{verb}", request)
        if reply is not None:
            break
    assert reply is not None, plugin.log_tail()
    assert not reply.json.get("Err"), (verb, reply.json)
