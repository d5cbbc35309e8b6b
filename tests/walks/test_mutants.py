"""The walk can fail: with one safeguard removed at a time, it finds the fault that it prevents."""

from collections.abc import Callable, Mapping

import pytest
from hypothesis import Phase, seed
from hypothesis.stateful import run_state_machine_as_test

from tests.walks.laboratory import UNCLAIMED, WatchedHost
from tests.walks.memory_walk import FilesystemWalk, MemoryWalk
from tests.walks.transitions import TransitionWalk
from tests.walks.walk import walk_settings
from volplug.models import ContentKind, Contents, FilesystemPhase, FilesystemTag, MountSource, Volume
from volplug.testing.memory import MemoryDriver
from volplug.volumes import decision, handover, ledger, observe, takeover
from volplug.volumes.decision import Decision, Goal, Step
from volplug.volumes.observed import BackendState, HolderVerdict, Observed

Mutate = Callable[[pytest.MonkeyPatch], None]


def no_exclusive_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async def is_held(host: WatchedHost, source: MountSource, patience_s: float) -> bool:
        return False

    monkeypatch.setattr(WatchedHost, "is_held", is_held)


def no_check_for_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    read = WatchedHost.read_contents

    async def read_contents(host: WatchedHost, source: MountSource, tag: FilesystemTag) -> Contents:
        found = await read(host, source, tag)
        return Contents(ContentKind.BLANK, "") if found.description == UNCLAIMED else found

    monkeypatch.setattr(WatchedHost, "read_contents", read_contents)


def a_set_of_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    def more(counts: Mapping[str, int], mount_id: str) -> Mapping[str, int]:
        return {**counts, mount_id: 1}

    monkeypatch.setattr(ledger, "_more", more)


def detach_before_unmount(monkeypatch: pytest.MonkeyPatch) -> None:
    def towards_detached(seen: Observed) -> Decision:
        if seen.backend_state is BackendState.HERE:
            return Step.DETACH
        return decision._towards_detached(seen)

    monkeypatch.setitem(decision._RULES, Goal.DETACHED, towards_detached)


def old_tags_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the content of a mounted filesystem is not known either: each of the two suffices alone."""

    def found_as_it_is(found: Volume, known: Volume | None) -> Volume:
        return found

    read = WatchedHost.read_contents

    async def read_contents(host: WatchedHost, source: MountSource, tag: FilesystemTag) -> Contents:
        found = await read(host, source, tag)
        is_taken_for_remnants = tag.phase is FilesystemPhase.FORMATTING and found.kind is ContentKind.DIRTY
        return Contents(ContentKind.PARTIAL, "") if is_taken_for_remnants else found

    monkeypatch.setattr(ledger, "not_older", found_as_it_is)
    monkeypatch.setattr(observe, "not_older", found_as_it_is)
    monkeypatch.setattr(WatchedHost, "read_contents", read_contents)


def takeover_from_the_living(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the driver does not check the proof itself."""

    def judge_holder(*_: object, **__: object) -> HolderVerdict:
        return HolderVerdict.DEAD

    async def take_from(driver: MemoryDriver, volume: Volume, node_id: str) -> None:
        await MemoryDriver(driver._cloud, node_id).detach(volume)

    monkeypatch.setattr(takeover, "judge_holder", judge_holder)
    monkeypatch.setattr(MemoryDriver, "take_from", take_from)


def release_of_what_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover.Handover, "_refuse_in_use", lambda *_: None)


# The seed of walks is one that finds the fault within a few walks; others may need hundreds.
@pytest.mark.parametrize(
    ("mutate", "finding", "walks_seed"),
    [
        (no_exclusive_open, "was detached by .* while used|was deleted by .* while used", 3),
        (no_check_for_zeros, "was formatted on . with data on it", 3),
        (a_set_of_ids, "runs without its mount", 5),
        (detach_before_unmount, "was detached by .* while used", 4),
        (old_tags_believed, "was formatted on . with data on it", 4),
        (takeover_from_the_living, "was taken by . while used on", 3),
        (release_of_what_is_in_use, "runs without its mount", 3),
    ],
)
def test_a_seeded_fault_is_found(
    mutate: Mutate, finding: str, walks_seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)

    @seed(walks_seed)
    class SeededWalk(MemoryWalk):
        pass

    with pytest.raises(AssertionError, match=finding):
        run_state_machine_as_test(SeededWalk, settings=walk_settings(400, 50, Phase.generate))


@pytest.mark.parametrize("walk", [TransitionWalk, FilesystemWalk])
def test_a_seeded_fault_is_found_on_other_clouds(
    walk: type[MemoryWalk], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_exclusive_open(monkeypatch)
    with pytest.raises(AssertionError, match=r"was detached by .* while used|was deleted by .* while used"):
        run_state_machine_as_test(walk, settings=walk_settings(400, 50, Phase.generate))
