"""The decision over its whole input: total, never dangerous, and always terminating."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from tests.volumes.model_world import ModelWorld
from volplug.models import ContentKind, FilesystemPhase, MountState
from volplug.volumes.decision import PASSIVE_STEPS, Decision, Goal, Reason, Refusal, Step, decide
from volplug.volumes.observed import BackendState, DeviceMatch, DeviceUse, HolderVerdict, Observed, SizeMatch

OTHER_NODES = (BackendState.ELSEWHERE, BackendState.LEAVING)
RELEASING = (Goal.RELEASED, Goal.DETACHED, Goal.ABSENT)
MAX_STEPS = 16


def everything() -> list[tuple[Observed, Goal, Decision]]:
    """All possible observations; another node is judged only if it has the volume."""
    contents = (None, *ContentKind)
    parts = product(
        BackendState, DeviceMatch, contents, FilesystemPhase, MountState, DeviceUse, (False, True)
    )
    seen = [
        Observed(*each, holder=holder, is_confirmed=is_confirmed, size=size)
        for each in parts
        for holder in (HolderVerdict if each[0] in OTHER_NODES else [HolderVerdict.UNASKED])
        for is_confirmed in (False, True)
        for size in (SizeMatch if each[1] is DeviceMatch.RIGHT else [SizeMatch.EQUAL])
    ]
    return [(each, goal, decide(each, goal)) for each in seen for goal in Goal]


@pytest.fixture(scope="module")
def decisions() -> list[tuple[Observed, Goal, Decision]]:
    return everything()


def of_step(
    decisions: list[tuple[Observed, Goal, Decision]], *steps: Step
) -> list[tuple[Observed, Goal, Decision]]:
    found = [each for each in decisions if each[2] in steps]
    assert found, f"no combination leads to {steps}"
    return found


def test_every_combination_has_an_answer(decisions: list[tuple[Observed, Goal, Decision]]) -> None:
    assert len(decisions) == (10 + 5 + 5) * (3 + 6) * 7 * 3 * 4 * 3 * 2 * 2 * 6
    assert all(isinstance(decision, (Step, Refusal)) for _, _, decision in decisions)


def test_every_step_and_every_reason_is_used(decisions: list[tuple[Observed, Goal, Decision]]) -> None:
    taken = {decision for _, _, decision in decisions if isinstance(decision, Step)}
    given = {decision.reason for _, _, decision in decisions if isinstance(decision, Refusal)}
    assert (taken, given) == (set(Step), set(Reason))


def test_mkfs_runs_only_on_a_verified_free_device_that_our_format_was_begun_on(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    for seen, goal, _ in of_step(decisions, Step.MAKE_FILESYSTEM):
        assert goal is Goal.MOUNTED
        assert seen.format_phase is FilesystemPhase.FORMATTING
        assert seen.contents in {ContentKind.BLANK, ContentKind.PARTIAL}
        assert (seen.backend_state, seen.device) == (BackendState.HERE, DeviceMatch.RIGHT)
        assert (seen.mount, seen.device_use) == (MountState.NONE, DeviceUse.FREE)


def test_a_format_is_begun_only_on_a_blank_free_volume_of_our_own(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    for seen, goal, _ in of_step(decisions, Step.TAG_FORMATTING):
        assert goal is Goal.MOUNTED
        assert (seen.format_phase, seen.contents) == (FilesystemPhase.PENDING, ContentKind.BLANK)
        assert (seen.backend_state, seen.device) == (BackendState.HERE, DeviceMatch.RIGHT)
        assert (seen.mount, seen.device_use) == (MountState.NONE, DeviceUse.FREE)


def test_nothing_held_or_mounted_is_detached(decisions: list[tuple[Observed, Goal, Decision]]) -> None:
    for seen, goal, _ in of_step(decisions, Step.DETACH):
        assert goal in {Goal.DETACHED, Goal.ABSENT}
        assert seen.mount is MountState.NONE
        assert seen.device is DeviceMatch.NONE or seen.device_use is DeviceUse.FREE
        assert seen.device is not DeviceMatch.WRONG


def test_nothing_that_this_host_still_has_is_deleted(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    dangerous = [
        (seen, goal)
        for seen, goal, _ in of_step(decisions, Step.DELETE)
        if (seen.device, seen.mount) != (DeviceMatch.NONE, MountState.NONE)
        or goal not in {Goal.ABSENT, Goal.PRESENT}
        or (goal is Goal.PRESENT and seen.backend_state is not BackendState.DELETING)
    ]
    assert dangerous == []


def test_a_volume_held_elsewhere_or_in_an_unclear_state_is_never_deleted(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    records = {seen.backend_state for seen, _, _ in of_step(decisions, Step.DELETE)}
    assert records == {
        BackendState.INCOMPLETE,
        BackendState.AVAILABLE,
        BackendState.DELETING,
        BackendState.ERROR,
    }


def test_of_a_wrong_device_only_our_own_mount_is_touched(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    for seen, goal, decision in decisions:
        if seen.device is DeviceMatch.WRONG and goal is not Goal.PRESENT:
            is_release = decision is Step.UNMOUNT and goal in RELEASING and seen.mount is not MountState.NONE
            is_untouched = isinstance(decision, Refusal) or decision is Step.RECHECK_RECORD
            is_untouched |= goal is Goal.UNHELD and decision in {Step.DONE, Step.AWAIT_BACKEND}
            assert is_untouched or is_release, (seen, goal)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (BackendState.ABSENT, Reason.NOT_FOUND),
        (BackendState.UNREACHABLE, Reason.UNREACHABLE),
        (BackendState.DUPLICATE, Reason.DUPLICATE),
        (BackendState.DELETING, Reason.BEING_DELETED),
        (BackendState.ERROR, Reason.IN_ERROR),
    ],
)
def test_no_mount_of_a_volume_that_is_not_certainly_available(
    decisions: list[tuple[Observed, Goal, Decision]], record: BackendState, reason: Reason
) -> None:
    reasons = {
        decision.reason if isinstance(decision, Refusal) else decision
        for seen, goal, decision in decisions
        if goal is Goal.MOUNTED and seen.backend_state is record
    }
    assert reasons == {reason}


def test_another_nodes_volume_is_only_touched_if_that_node_is_dead(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    acted = {
        (decision, seen.holder, seen.device)
        for seen, goal, decision in decisions
        if goal in {Goal.MOUNTED, Goal.UNHELD}
        and seen.backend_state in OTHER_NODES
        and isinstance(decision, Step)
        and decision not in PASSIVE_STEPS
    }
    assert acted == {
        (Step.TAKE_OVER, HolderVerdict.DEAD, DeviceMatch.NONE),
        (Step.FENCE, HolderVerdict.FENCEABLE, DeviceMatch.NONE),
    }
    assert {goal for _, goal, _ in of_step(decisions, Step.TAKE_OVER, Step.FENCE)} == {
        Goal.MOUNTED,
        Goal.UNHELD,
    }


@pytest.mark.parametrize("goal", Goal)
@pytest.mark.parametrize("record", sorted(set(BackendState) - set(OTHER_NODES)))
def test_a_verdict_on_a_holder_counts_only_where_another_node_has_the_volume(
    record: BackendState, goal: Goal
) -> None:
    decided = {
        decide(Observed(record, device, holder=standing), goal)
        for device in DeviceMatch
        for standing in HolderVerdict
    }
    assert decided == {decide(Observed(record, device), goal) for device in DeviceMatch}


def test_a_volume_that_another_node_is_detaching_is_waited_for_unless_that_is_dead() -> None:
    leaving = Observed(BackendState.LEAVING)
    assert decide(leaving, Goal.MOUNTED) is Step.ASK_HOLDER
    asked = {each: decide(replace(leaving, holder=each), Goal.MOUNTED) for each in HolderVerdict}
    assert asked.pop(HolderVerdict.UNASKED) is Step.ASK_HOLDER
    assert asked.pop(HolderVerdict.DEAD) is Step.TAKE_OVER
    assert set(asked.values()) == {Step.AWAIT_BACKEND}
    assert decide(leaving, Goal.DETACHED) is Step.DONE
    assert decide(leaving, Goal.ABSENT) is Step.AWAIT_BACKEND


def test_a_read_that_may_be_stale_is_repeated_and_not_acted_upon() -> None:
    late = Observed(BackendState.HERE, DeviceMatch.RIGHT, ContentKind.OURS, is_confirmed=False)
    assert decide(late, Goal.MOUNTED) is Step.RECHECK_RECORD
    assert decide(replace(late, is_confirmed=True), Goal.MOUNTED) == Refusal(Reason.NOT_BLANK)
    elsewhere = Observed(BackendState.ELSEWHERE, DeviceMatch.RIGHT, is_confirmed=False)
    assert decide(elsewhere, Goal.MOUNTED) is Step.RECHECK_RECORD
    assert decide(replace(elsewhere, is_confirmed=True), Goal.MOUNTED) == Refusal(Reason.CONTRADICTION)


@pytest.mark.parametrize("goal", [Goal.MOUNTED, Goal.DETACHED, Goal.ABSENT])
def test_a_device_that_is_still_visible_of_a_detached_volume_is_waited_for(goal: Goal) -> None:
    assert (
        decide(Observed(BackendState.AVAILABLE, DeviceMatch.RIGHT, device_use=DeviceUse.FREE), goal)
        is Step.AWAIT_BACKEND
    )


@pytest.mark.parametrize("record", [BackendState.UNREACHABLE, BackendState.DUPLICATE])
def test_of_a_volume_in_an_unclear_state_only_our_own_mount_is_changed(
    decisions: list[tuple[Observed, Goal, Decision]], record: BackendState
) -> None:
    acted = {
        (goal, decision, seen.device is DeviceMatch.NONE)
        for seen, goal, decision in decisions
        if seen.backend_state is record and isinstance(decision, Step) and decision not in PASSIVE_STEPS
    }
    # Without a device, nothing could be tested after the unmount.
    assert acted == {(goal, Step.UNMOUNT, False) for goal in RELEASING}


def test_a_filesystem_is_checked_only_while_it_is_not_in_use(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    for seen, goal, _ in of_step(decisions, Step.CHECK_FILESYSTEM):
        assert goal is Goal.MOUNTED
        assert seen.format_phase is not FilesystemPhase.PENDING
        assert seen.contents is ContentKind.DIRTY
        assert (seen.mount, seen.device_use) == (MountState.NONE, DeviceUse.FREE)


def test_only_the_expected_filesystem_is_mounted(decisions: list[tuple[Observed, Goal, Decision]]) -> None:
    for seen, goal, _ in of_step(decisions, Step.MOUNT):
        assert goal is Goal.MOUNTED
        assert (seen.backend_state, seen.device, seen.mount) == (
            BackendState.HERE,
            DeviceMatch.RIGHT,
            MountState.NONE,
        )
        assert seen.contents is ContentKind.OURS or (
            # In use on this host, it cannot be clean; it is mounted once more, never checked.
            seen.format_phase is not FilesystemPhase.PENDING
            and (seen.contents, seen.device_use) == (ContentKind.DIRTY, DeviceUse.BUSY)
        )


def test_mounted_is_reached_only_with_a_finished_format_and_a_sound_mount(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    for seen, goal, _ in of_step(decisions, Step.DONE):
        if goal is Goal.MOUNTED:
            assert (seen.mount, seen.format_phase) == (MountState.OK, FilesystemPhase.FORMATTED)
            assert (seen.backend_state, seen.device) == (BackendState.HERE, DeviceMatch.RIGHT)


def test_released_is_reached_only_by_a_passed_test(decisions: list[tuple[Observed, Goal, Decision]]) -> None:
    for seen, goal, _ in of_step(decisions, Step.DONE):
        if goal in RELEASING:
            assert seen.mount is MountState.NONE
            assert seen.device is DeviceMatch.NONE or seen.device_use is DeviceUse.FREE
            assert seen.device is not DeviceMatch.WRONG
        if goal in {Goal.DETACHED, Goal.ABSENT}:
            assert seen.device is DeviceMatch.NONE
        if goal is Goal.ABSENT:
            assert seen.backend_state is BackendState.ABSENT


def test_a_device_in_use_means_refused(decisions: list[tuple[Observed, Goal, Decision]]) -> None:
    refused = {
        decision
        for seen, goal, decision in decisions
        if goal in RELEASING
        and (seen.device_use, seen.device, seen.mount) == (DeviceUse.BUSY, DeviceMatch.RIGHT, MountState.NONE)
    }
    assert refused == {Refusal(Reason.HELD_HERE)}


@pytest.mark.parametrize(
    ("phase", "contents", "reason"),
    [
        *(
            (FilesystemPhase.PENDING, kind, Reason.NOT_BLANK)
            for kind in sorted(set(ContentKind) - {ContentKind.BLANK})
        ),
        (FilesystemPhase.FORMATTING, ContentKind.FOREIGN, Reason.FOREIGN_DURING_FORMAT),
        (FilesystemPhase.FORMATTING, ContentKind.UNCLAIMED, Reason.FOREIGN_DURING_FORMAT),
        (FilesystemPhase.FORMATTED, ContentKind.BLANK, Reason.FILESYSTEM_GONE),
        (FilesystemPhase.FORMATTED, ContentKind.PARTIAL, Reason.FILESYSTEM_GONE),
        (FilesystemPhase.FORMATTED, ContentKind.FOREIGN, Reason.FILESYSTEM_GONE),
        (FilesystemPhase.FORMATTED, ContentKind.UNCLAIMED, Reason.FILESYSTEM_GONE),
    ],
)
def test_unexpected_contents_are_refused_whether_in_use_or_not(
    phase: FilesystemPhase, contents: ContentKind, reason: Reason
) -> None:
    for kernel in DeviceUse:
        seen = Observed(BackendState.HERE, DeviceMatch.RIGHT, contents, phase, MountState.NONE, kernel)
        assert decide(seen, Goal.MOUNTED) == Refusal(reason)


@pytest.mark.parametrize("phase", FilesystemPhase)
@pytest.mark.parametrize("kind", ContentKind)
def test_noise_is_formatted_only_where_it_may_be_and_nothing_else_is_judged_differently(
    phase: FilesystemPhase, kind: ContentKind
) -> None:
    free = Observed(
        BackendState.HERE, DeviceMatch.RIGHT, kind, phase, MountState.NONE, device_use=DeviceUse.FREE
    )
    noisy = replace(free, may_hold_noise=True)
    first_format = {
        FilesystemPhase.PENDING: Step.TAG_FORMATTING,
        FilesystemPhase.FORMATTING: Step.MAKE_FILESYSTEM,
    }
    if kind is ContentKind.UNCLAIMED and phase in first_format:
        assert decide(noisy, Goal.MOUNTED) is first_format[phase]
        assert decide(replace(noisy, device_use=DeviceUse.UNTESTED), Goal.MOUNTED) is Step.TEST_RELEASE
        assert decide(replace(noisy, device_use=DeviceUse.BUSY), Goal.MOUNTED) == Refusal(Reason.HELD_HERE)
    else:
        assert decide(noisy, Goal.MOUNTED) == decide(free, Goal.MOUNTED)


def test_a_filesystem_without_a_device_is_never_formatted_or_checked_and_its_first_mount_finishes_it(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    """What is seen of one is a part of the table: it is its own or not, and has no size to compare."""
    of_named = [
        (seen, goal, decision)
        for seen, goal, decision in decisions
        if seen.contents in (None, ContentKind.OURS, ContentKind.FOREIGN) and seen.size is SizeMatch.EQUAL
    ]
    forbidden = {Step.TAG_FORMATTING, Step.MAKE_FILESYSTEM, Step.CHECK_FILESYSTEM}
    assert not forbidden & {decision for _, _, decision in of_named}
    world = ModelWorld(
        Observed(format_phase=FilesystemPhase.FORMATTING), ContentKind.OURS, is_held=False
    ).changed(backend_state=BackendState.AVAILABLE)
    steps: list[Decision] = []
    while (step := decide(world.seen, Goal.MOUNTED)) is not Step.DONE:
        assert isinstance(step, Step)
        steps.append(step)
        (world,) = world.after(step)
    assert steps == [Step.ATTACH, Step.READ_CONTENTS, Step.MOUNT, Step.FINISH_FORMAT]


def starts() -> Iterator[ModelWorld]:
    parts = product(BackendState, DeviceMatch, ContentKind, FilesystemPhase, MountState, (False, True))
    for record, device, contents, phase, mount, is_held in parts:
        seen = Observed(record, device, format_phase=phase, mount=mount, is_confirmed=False)
        yield ModelWorld(seen, contents, is_held)


@pytest.mark.parametrize("goal", Goal)
def test_every_start_ends_in_done_or_a_refusal(goal: Goal) -> None:
    for start in starts():
        worlds = [start]
        for _ in range(MAX_STEPS):
            steps = [(world, decide(world.seen, goal)) for world in worlds]
            worlds = [
                after
                for world, step in steps
                if isinstance(step, Step) and step is not Step.DONE
                for after in world.after(step)
            ]
            if not worlds:
                break
        assert worlds == [], f"{start} does not get to {goal} in {MAX_STEPS} steps"


def test_a_new_volume_is_created_mounted_and_deleted_again() -> None:
    world = ModelWorld(Observed(), ContentKind.BLANK, is_held=False)
    taken: list[Step] = []
    for goal in (Goal.PRESENT, Goal.MOUNTED, Goal.RELEASED, Goal.DETACHED, Goal.ABSENT):
        while (step := decide(world.seen, goal)) is not Step.DONE:
            assert isinstance(step, Step)
            taken.append(step)
            (world,) = world.after(step)
    assert taken == [
        *(Step.CREATE, Step.ATTACH, Step.READ_CONTENTS, Step.TEST_RELEASE, Step.TAG_FORMATTING),
        *(Step.MAKE_FILESYSTEM, Step.MOUNT, Step.FINISH_FORMAT),
        *(Step.UNMOUNT, Step.TEST_RELEASE, Step.DETACH, Step.DELETE),
    ]


@pytest.mark.parametrize("goal", sorted(set(Goal) - {Goal.MOUNTED}))
def test_sizes_matter_only_to_a_mount(decisions: list[tuple[Observed, Goal, Decision]], goal: Goal) -> None:
    for seen, its_goal, decision in decisions:
        if its_goal is goal and seen.size is not SizeMatch.EQUAL:
            assert decision == decide(replace(seen, size=SizeMatch.EQUAL), goal)


SERVED = (SizeMatch.EQUAL, SizeMatch.FILESYSTEM_FITS, SizeMatch.FILESYSTEM_SMALLER)


def test_a_filesystem_is_mounted_only_if_its_device_has_all_of_it(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    for seen, _, _ in of_step(decisions, Step.MOUNT, Step.CHECK_FILESYSTEM):
        assert seen.size in SERVED
        assert seen.size is not SizeMatch.FILESYSTEM_FITS or seen.format_phase is FilesystemPhase.FORMATTED


def test_a_format_is_begun_only_on_a_device_of_the_size_of_its_record(
    decisions: list[tuple[Observed, Goal, Decision]],
) -> None:
    for seen, _, _ in of_step(decisions, Step.TAG_FORMATTING, Step.MAKE_FILESYSTEM):
        assert seen.size in (SizeMatch.EQUAL, SizeMatch.FILESYSTEM_SMALLER)


@pytest.mark.parametrize("size", SizeMatch)
@pytest.mark.parametrize("kind", [ContentKind.OURS, ContentKind.DIRTY])
def test_a_device_of_another_size_is_read_and_served_if_nothing_can_be_lost(
    size: SizeMatch, kind: ContentKind
) -> None:
    attached = Observed(
        BackendState.HERE, DeviceMatch.RIGHT, format_phase=FilesystemPhase.FORMATTED, size=size
    )
    assert decide(attached, Goal.MOUNTED) is Step.READ_CONTENTS
    judged = replace(attached, contents=kind, device_use=DeviceUse.FREE)
    if size in SERVED:
        next_step = Step.MOUNT if kind is ContentKind.OURS else Step.CHECK_FILESYSTEM
        assert decide(judged, Goal.MOUNTED) is next_step
    elif size is SizeMatch.FILESYSTEM_LARGER:
        assert decide(judged, Goal.MOUNTED) == Refusal(Reason.CUT_OFF)
    else:
        assert decide(judged, Goal.MOUNTED) == Refusal(Reason.WRONG_SIZE)
        assert decide(replace(judged, is_confirmed=False), Goal.MOUNTED) is Step.RECHECK_RECORD
