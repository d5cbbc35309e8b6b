"""Every case of the shared suite can fail: for each there is a driver with one fault that it catches."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count, product
from pathlib import Path

import pytest

from tests.testing import faulty_backends as backends
from tests.testing import faulty_copies as copies
from tests.testing import faulty_drivers as faulty
from volplug.drivers.base import Driver
from volplug.errors import BackendUnavailable, VolplugError
from volplug.models import Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB
from volplug.testing.conformance import (
    ClusterConformance,
    CopyConformance,
    DescriptionConformance,
    DriverConformance,
    DuplicateConformance,
    OutageConformance,
    SharedDriverConformance,
)
from volplug.testing.driver_fixtures import eventually_within
from volplug.testing.memory import MemoryCloud, MemoryDriver


class Suite(
    DriverConformance,
    SharedDriverConformance,
    ClusterConformance,
    OutageConformance,
    DuplicateConformance,
    DescriptionConformance,
    CopyConformance,
):
    """All cases that there are."""


CAUGHT_BY: dict[str, type[MemoryDriver]] = {
    "nothing_exists_at_first": faulty.ListsWhatIsNotItsOwn,
    "created_volume_is_what_was_asked_for": faulty.HasNoTimeZone,
    "created_volume_is_listed_and_found_by_name": faulty.DescribesDifferently,
    "identity_survives_a_restart": faulty.KnowsOnlyWhatItMade,
    "size_is_never_below_what_was_asked_for": faulty.RoundsDown,
    "name_taken_is_refused": faulty.CreatesTwice,
    "volumes_are_created_concurrently": faulty.NumbersItsVolumes,
    "longest_name_goes_all_the_way": faulty.CutsNames,
    "similar_names_are_different": faulty.IgnoresCase,
    "every_volume_of_many_is_listed": faulty.ListsOnePage,
    "sizes_outside_of_the_limits_are_refused": faulty.TakesAnySize,
    "built_in_profiles_can_be_chosen": faulty.RefusesItsOwnProfile,
    "creation_that_was_begun_is_finished": faulty.StartsAllOver,
    "creation_that_was_begun_is_not_turned_into_another": faulty.FinishesAnything,
    "creation_that_was_begun_can_be_given_up": faulty.KeepsHalfMadeVolumes,
    "cancelled_creation_leaves_one_volume_or_none": faulty.LeavesHalfAVolume,
    "cancelled_change_can_be_made_again": faulty.StaysHalfAttached,
    "list_is_whole_while_volumes_come_and_go": faulty.ListsByPosition,
    "concurrent_life_cycles_are_independent": faulty.MixesUpAttachments,
    "life_cycle_can_be_repeated": faulty.KeepsItsIds,
    "unknown_volume_has_no_device": faulty.FindsNoDeviceOfWhatIsUnknown,
    "attached_volume_is_located_and_shown_so": faulty.ForgetsTheHolder,
    "device_is_as_large_as_the_volume": faulty.IsSmallerThanItSays,
    "device_is_identified_whatever_size_is_described": faulty.TellsDevicesBySize,
    "attach_twice_is_one_attachment": faulty.AttachesAnew,
    "detached_volume_is_available_again": faulty.StaysAttached,
    "device_is_a_block_device": backends.FileDriver,
    "volumes_are_attached_concurrently": faulty.HasOneDevice,
    "data_survives_detach_and_restart": backends.WipesAtDetach,
    "each_volume_has_data_of_its_own": backends.HasOneDisk,
    "unknown_volume_is_not_found": faulty.DeletesQuietly,
    "delete_of_an_attached_volume_is_refused": faulty.DeletesWhatIsAttached,
    "delete_removes_that_volume_and_no_other": faulty.DeletesEverything,
    "name_of_a_deleted_volume_can_be_used_again": backends.ReusesDisks,
    "volume_created_anew_is_not_touched_in_the_name_of_the_old": faulty.DetachesByName,
    "device_of_a_volume_created_anew_is_not_taken_for_the_old_ones": faulty.LocatesByName,
    "refusals_name_the_volume_and_its_holder": faulty.SaysLittle,
    "filesystem_tag_is_kept_with_the_volume": faulty.ForgetsTags,
    "filesystem_tag_of_an_attached_volume": faulty.TagsAnOldDescription,
    "filesystem_tag_outlives_calls_with_an_older_description": faulty.AttachesAnOldDescription,
    "node_is_never_declared_dead_by_guess": faulty.GuessesDeath,
    "limits_are_plausible_and_volumes_count": faulty.CountsNoNewVolume,
    "diagnosis_is_well_formed_and_changes_nothing": faulty.RepairsWhatItFinds,
    "constants_make_sense": faulty.WritesOptionsItsOwnWay,
    "constants_are_constant": faulty.ForgetsWhoItIs,
    "scope_is_global": backends.CallsItselfLocal,
    "both_nodes_see_the_same_volumes": faulty.KnowsOnlyWhatItMade,
    "volume_of_another_node_is_not_taken": backends.Steals,
    "detach_never_takes_a_volume_from_another_node": backends.DetachesOthers,
    "concurrent_creations_of_one_name_give_one_volume": backends.LooksBeforeItCreates,
    "volumes_of_another_cluster_are_not_seen": backends.SeesEveryCluster,
    "clusters_do_not_share_names": backends.SeesEveryCluster,
    "volumes_of_another_cluster_are_not_touched": backends.SeesEveryCluster,
    "outage_is_reported_and_changes_nothing": backends.TakesSilenceForEmptiness,
    "diagnosis_during_an_outage_names_it": faulty.RaisesItsDiagnosis,
    "device_is_located_during_an_outage": backends.LocatesAtTheBackend,
    "detach_during_an_outage_is_done_or_refused": backends.TakesSilenceForAbsence,
    "constants_are_known_during_an_outage": backends.AsksWhoItIs,
    "name_of_two_volumes_is_refused_naming_both": backends.TakesTheFirst,
    "duplicates_do_not_hide_other_volumes": backends.ListsNames,
    "deletion_of_one_duplicate_leaves_the_other": backends.DeletesNamesakes,
    "description_that_must_not_be_believed_is_an_error": backends.BelievesEverything,
    "spoilt_description_does_not_hide_the_device": backends.HidesWhatIsSpoilt,
    "copy_is_a_volume_only_once_it_is_adopted": copies.AdoptsAtOnce,
    "cut_stream_is_sent_again_or_resumed": copies.TakesACutStreamForAWholeOne,
    "stream_never_replaces_a_volume": copies.OverwritesVolumes,
}
ALSO_CAUGHT = [
    ("similar_names_are_different", faulty.FindsByTheirBeginning),
    ("volumes_are_attached_concurrently", faulty.HasOneSerial),
    ("cancelled_change_can_be_made_again", faulty.DeletesInTheBackground),
    ("list_is_whole_while_volumes_come_and_go", faulty.BreaksWhileListing),
    ("volume_created_anew_is_not_touched_in_the_name_of_the_old", faulty.DeletesByName),
    ("diagnosis_is_well_formed_and_changes_nothing", faulty.FindsWithoutARemedy),
    ("diagnosis_is_well_formed_and_changes_nothing", faulty.FindsNothing),
    ("diagnosis_during_an_outage_names_it", faulty.FindsNothing),
    ("limits_are_plausible_and_volumes_count", faulty.UsesMoreThanThereIs),
    ("limits_are_plausible_and_volumes_count", faulty.UsesLessThanNothing),
]
CASES = [name.removeprefix("test_") for name in dir(Suite) if name.startswith("test_")]
OF_COPIES = {name.removeprefix("test_") for name in vars(CopyConformance) if name.startswith("test_")}
# Its fault is in the test class, not in the driver: see below.
OF_CLASSES = "capabilities_are_declared"


def run(case: str, kind: type[MemoryDriver], directory: Path) -> None:
    """Run a case with each of its parameters, on a cloud of its own each time."""
    test = getattr(Suite(), f"test_{case}")
    for number, parameters in enumerate(_parameters(test)):
        files = directory / str(number)
        files.mkdir()
        provided = _fixtures(kind, files) | parameters
        wanted = inspect.signature(test).parameters
        asyncio.run(test(**{name: provided[name] for name in wanted}))


def _parameters(test: Callable[..., object]) -> Iterator[dict[str, object]]:
    marks = [mark.args for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    names = [name for name, _ in marks]
    for values in product(*(values for _, values in marks)):
        yield dict(zip(names, values, strict=True))


def _fixtures(kind: type[MemoryDriver], files: Path) -> dict[str, object]:
    cloud, numbers = backends.FileCloud(directory=files), count()

    def make_spec(name: str = "", size_bytes: int = 0) -> VolumeSpec:
        return VolumeSpec(name or f"v{next(numbers)}", size_bytes or GIB)

    async def interrupt_create(spec: VolumeSpec) -> None:
        volume = await MemoryDriver(cloud).create(spec)
        cloud.volumes[volume.volume_id] = replace(volume, state=VolumeState.INCOMPLETE)

    async def duplicate(volume: Volume) -> Volume:
        copy = replace(volume, volume_id=f"{volume.volume_id}-copy")
        cloud.volumes[copy.volume_id] = copy
        return copy

    async def describe(volume: Volume, otherwise: Volume) -> None:
        now = cloud.volumes[volume.volume_id]
        cloud.volumes[volume.volume_id] = replace(otherwise, state=now.state, holder=now.holder)

    @asynccontextmanager
    async def outage() -> AsyncIterator[None]:
        cloud.outage = BackendUnavailable("no route to the cloud")
        try:
            yield
        finally:
            cloud.outage = None

    def new_driver() -> Driver:
        return kind(cloud)

    unknown = Volume("never", "mem-never", "memory", GIB, VolumeState.AVAILABLE, make_spec("never"))
    return {
        "driver": new_driver(),
        "new_driver": new_driver,
        "other_host": kind(backends.FileCloud(directory=files)),
        "other_node": kind(cloud, "node-b"),
        "foreign_node": MemoryDriver(cloud, cluster="other"),
        "make_spec": make_spec,
        "interrupt_create": interrupt_create,
        "duplicate": duplicate,
        "describe": describe,
        "outage": outage,
        "stale_s": 0.0,
        "eventually": eventually_within(0.0),
        "unknown_volume": unknown,
        "has_devices": issubclass(kind, backends.FileDriver),
        "many": 20,
    }


def is_caught(case: str, kind: type[MemoryDriver], directory: Path) -> bool:
    try:
        run(case, kind, directory)
    except (AssertionError, VolplugError, ExceptionGroup, RuntimeError, pytest.fail.Exception):
        return True
    return False


def test_there_is_a_fault_for_every_case() -> None:
    assert sorted(CAUGHT_BY) == sorted(set(CASES) - {OF_CLASSES})


@pytest.mark.parametrize("case", CASES)
def test_a_driver_without_faults_gets_through(case: str, tmp_path: Path) -> None:
    run(case, copies.CopiesInMemory if case in OF_COPIES else MemoryDriver, tmp_path)


@pytest.mark.parametrize("case", sorted(set(CASES) - {"device_is_a_block_device"} - OF_COPIES))
def test_devices_without_faults_get_through(case: str, tmp_path: Path) -> None:
    run(case, backends.FileDriver, tmp_path)


@pytest.mark.parametrize(
    ("case", "kind"), [*CAUGHT_BY.items(), *ALSO_CAUGHT], ids=lambda value: getattr(value, "__name__", value)
)
def test_a_driver_with_a_fault_is_caught(case: str, kind: type[MemoryDriver], tmp_path: Path) -> None:
    assert is_caught(case, kind, tmp_path)


async def test_a_shared_remote_backend_needs_the_cases_for_that() -> None:
    with pytest.raises(AssertionError):
        await DriverConformance().test_capabilities_are_declared(MemoryDriver(MemoryCloud()))
