"""The pairs of a Docker Engine and a form of volplug that engine tests run on.

By default the oldest engine has volplug as a service of the host, and the newest one as a managed plugin:
both engines and both forms, but not each form on each engine, which is slow. A module, or a test, chooses its
pairs with one of the marks below.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import pytest

from tests.engine.versions import DOCKER_20, DOCKER_26, EngineVersion
from tests.lab.built import built_plugin
from tests.lab.engine import Engine
from tests.lab.fork_server import ForkServer
from tests.lab.managed import ManagedVolplug, Volplug
from tests.lab.plugin import Machine, VolplugProcess
from tests.lab.requirements import PLUGIN


@dataclass(frozen=True)
class Pair:
    """An engine and how volplug is installed.

    Attributes:
        version: The Docker Engine.
        form: As a service, or as a managed plugin.
    """

    version: EngineVersion
    form: type[VolplugProcess] | type[ManagedVolplug]

    def machine(self, engine: Engine, forks: ForkServer) -> Machine:
        """Return the machine of an engine, where a service is forked if its system is this machine's."""
        return engine if self.version.system() else forks.machine_of(engine)

    def volplug(self, engine: Engine, forks: ForkServer) -> Volplug:
        """Describe volplug for an engine, without any configuration; nothing runs before it is started."""
        if self.form is ManagedVolplug:
            return ManagedVolplug(engine)
        return VolplugProcess(self.machine(engine, forks))

    def __str__(self) -> str:
        return f"docker-{self.version.number}-{'managed' if self.form is ManagedVolplug else 'process'}"


OLDEST = Pair(DOCKER_20, VolplugProcess)
NEWEST = Pair(DOCKER_26, ManagedVolplug)
_SERVICE_ON_NEWEST = Pair(DOCKER_26, VolplugProcess)
_IN_OLDEST = Pair(DOCKER_20, ManagedVolplug)
_PAIRS = (OLDEST, NEWEST, _IN_OLDEST, _SERVICE_ON_NEWEST)


def _on(*default: Pair, slow: tuple[Pair, ...]) -> pytest.MarkDecorator:
    params = [_param(pair, id=str(pair), is_slow=pair in slow) for pair in (*default, *slow)]
    return pytest.mark.parametrize("pair", params, indirect=True, scope="package")


def _param(pair: Pair, *values: object, id: str, is_slow: bool) -> object:  # noqa: A002 - as pytest.param
    marks = [pytest.mark.prepare(by=pair.version.system)]
    if pair.form is ManagedVolplug:
        marks += [*PLUGIN, pytest.mark.prepare(by=built_plugin)]
    if is_slow:
        marks.append(pytest.mark.slow)
    return pytest.param(pair, *values, id=id, marks=marks)


ON_EACH = _on(OLDEST, NEWEST, slow=(_IN_OLDEST, _SERVICE_ON_NEWEST))
# For tests that depend neither on the engine nor on the form: one of the two.
ON_OLDEST = _on(OLDEST, slow=(NEWEST, _IN_OLDEST, _SERVICE_ON_NEWEST))
ON_NEWEST = _on(NEWEST, slow=(OLDEST, _IN_OLDEST, _SERVICE_ON_NEWEST))
# For features of the newest engine.
SINCE_26 = _on(NEWEST, slow=(_SERVICE_ON_NEWEST,))
# For tests of one form only.
AS_SERVICE = _on(OLDEST, slow=(_SERVICE_ON_NEWEST,))
MANAGED = _on(NEWEST, slow=(_IN_OLDEST,))


def on_each(
    names: Sequence[str],
    cases: Mapping[str, Sequence[object]],
    default: Mapping[Pair, Collection[str]],
    indirect: Collection[str] = (),
    can_run: Callable[[Pair, str], bool] = lambda _pair, _case: True,
) -> pytest.MarkDecorator:
    """Run a test for every case on every pair.

    Args:
        names: The arguments that a case has values for.
        cases: The values by the name of the case.
        default: The cases of each pair which are not slow.
        indirect: Those of the names that are fixtures of a module.
        can_run: Whether a case can run on a pair.
    """
    params = [
        _param(pair, *values, id=f"{pair}-{case}", is_slow=case not in default.get(pair, ()))
        for pair in _PAIRS
        for case, values in cases.items()
        if can_run(pair, case)
    ]
    return pytest.mark.parametrize(("pair", *names), params, indirect=["pair", *indirect], scope="package")
