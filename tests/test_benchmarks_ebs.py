"""The pure parts of the benchmark of volumes on EBS."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks import measures as m
from benchmarks.client import CallError
from benchmarks.clouds import CloudVolplug, Way
from benchmarks.ebs import measures as e
from benchmarks.ebs.groups import GroupBySdk, GroupByVolplug
from benchmarks.ebs.lifecycles import Lifecycles
from benchmarks.ebs.measures import Steps
from benchmarks.ebs.testbed import config_text
from benchmarks.ebs.ways import BySdk, tags_for
from benchmarks.measures import Results
from benchmarks.report import changes_and_reads
from benchmarks.samples import Samples, in_turns
from benchmarks.targets import Target, judge, polls_while_waiting
from tests.ec2sim import Instance, RemoteEc2Cloud, VolumeFact
from tests.ec2sim.service import Calls
from volplug.config import load_settings
from volplug.drivers.base import BackendConfig
from volplug.drivers.ebs.settings import load_settings as load_ebs_settings


def test_what_volplug_adds_is_the_difference_of_neighbouring_runs() -> None:
    samples, results = Samples(), Results()
    for ours, bare in ((11.0, 1.0), (32.0, 2.0), (23.0, 3.0)):
        samples.note(e.CREATE, m.VOLPLUG, ours)
        samples.note(e.CREATE, m.SDK, bare)
    samples.keep(results, e.CREATE, e.CREATE_ADDED)
    assert results.p50(e.CREATE) == 23
    assert results.p50(e.CREATE, m.SDK) == 2
    assert results.p50(e.CREATE_ADDED) == 20


def test_ratios_are_taken_run_by_run_of_each_way() -> None:
    samples, results = Samples(), Results()
    for peer, one, many in ((m.VOLPLUG, 2.0, 6.0), (m.SDK, 4.0, 4.0)):
        samples.note(e.ONE, peer, one)
        samples.note(e.MANY, peer, many)
    samples.keep_ratios(results, e.MANY_RATIO, e.MANY, e.ONE)
    assert (results.p50(e.MANY_RATIO), results.p50(e.MANY_RATIO, m.SDK)) == (3, 1)


def test_each_way_goes_round_its_own_volumes_and_comes_first_in_its_turn() -> None:
    done: list[str] = []
    ways = {"a": cast(Way, None), "b": cast(Way, None)}
    in_turns(3, ways, {"a": ["a1", "a2"], "b": ["b1"]}, lambda _peer, _way, name: done.append(name))
    assert done == ["a1", "b1", "b1", "a2", "a1", "b1"]


def test_a_way_that_fails_ends_the_benchmark() -> None:
    def fail(*_: Any) -> None:  # noqa: ANN401  # any arguments
        raise CallError("gone")

    with pytest.raises(CallError, match="gone"):
        in_turns(1, {"a": cast(Way, None)}, {"a": ["v"]}, fail)


def test_copied_tags_carry_the_new_name_wherever_volplug_writes_it() -> None:
    tags = {"Name": "old", "volplug:name": "old", "volplug:fs": "ext4"}
    assert tags_for(tags, "new") == {"Name": "new", "volplug:name": "new", "volplug:fs": "ext4"}


def test_the_configuration_file_names_the_instance_and_nothing_that_the_driver_refuses(
    tmp_path: Path,
) -> None:
    instance = Instance(
        "i-1",
        "eu-central-1a",
        access_key="AK",
        secret_key='S"K',  # noqa: S106  # not a real key
        session_token="T",  # noqa: S106  # likewise
        sys_root="/s",
        dev_root="/d",
    )
    cloud = SimpleNamespace(
        region="eu-central-1", endpoint="http://127.0.0.1:1", imds_endpoint_of=lambda name: f"http://{name}"
    )
    file = tmp_path / "config.toml"
    file.write_text(config_text(cast(RemoteEc2Cloud, cloud), instance))
    settings = load_settings({"config": str(file)})
    backend = settings.configured_backends[settings.default_backend]
    assert (backend.driver, settings.cluster, settings.linger_s) == ("ebs", "bench", 0)
    read = load_ebs_settings(
        BackendConfig("ebs", "node", settings.cluster, tmp_path, backend.model_extra or {}), {}
    )
    assert (read.secret_key, str(read.sys_root), read.imds_endpoint) == ('S"K', "/s", "http://i-1")


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        ({}, "0 + 0"),
        ({"DescribeVolumes": 2.0}, "0 + 2"),
        ({"AttachVolume": 1.0, "CreateTags": 2.0, "DeleteTags": 0.0}, "3 + 0 (1 AttachVolume, 2 CreateTags)"),
    ],
)
def test_changes_are_distinguished_from_reads(kinds: dict[str, float], text: str) -> None:
    assert changes_and_reads(kinds) == text


def test_counts_have_a_median_of_each_action_and_of_their_sum() -> None:
    samples, results = Samples(), Results()
    for looks in (1, 4, 2):
        samples.count(e.SLOW.mount.calls, m.VOLPLUG, Counter(AttachVolume=1, DescribeVolumes=looks))
    samples.keep_counts(results, e.SLOW.mount.calls)
    assert results.p50(e.SLOW.mount.calls) == 3
    assert results.kinds == {
        (e.SLOW.mount.calls.key, m.VOLPLUG): {"AttachVolume": 1, "DescribeVolumes": 2},
    }


@pytest.mark.parametrize(
    ("waited_s", "looks"), [(0, 1), (0.9, 1), (1, 2), (4.9, 5), (5, 6), (9.9, 6), (10, 7), (60, 17)]
)
def test_polls_while_waiting_are_one_each_second_at_first(waited_s: float, looks: int) -> None:
    assert polls_while_waiting(waited_s) == looks


def test_polls_while_waiting_come_on_top_of_a_limit_of_calls() -> None:
    target = Target(e.SLOW.mount.calls, 2, waited=e.SLOW.mount.took)
    results = Results()
    results.add(target.measure, m.VOLPLUG, [5])
    assert judge(target, results).is_met is None
    for waited_ms, is_met in ((1999.0, False), (2000.0, True)):
        results.add(e.SLOW.mount.took, m.VOLPLUG, [waited_ms])
        assert judge(target, results).is_met is is_met


class _Group:
    """Detaches after the answer of unmount, as volplug does."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.leaving: list[str] = []
        self.failed: list[str] = []

    def create(self, names: Sequence[str]) -> None:
        self.made.update(["DescribeVolumes", *(["CreateVolume"] * len(names))])

    def mount(self, names: Sequence[str], *, is_blank: bool = False) -> None:
        self.settle()
        self.made.update(["AttachVolume"] * len(names) + ["CreateTags"] * (2 * len(names) * is_blank))

    def unmount(self, names: Sequence[str]) -> None:
        self.leaving += names

    def detach(self, names: Sequence[str]) -> None:
        pass

    def remove(self, names: Sequence[str]) -> None:
        self.settle()
        self.made.update(["DeleteVolume"] * len(names))

    def calls(self) -> Counter[str]:
        return Counter(self.made)

    def failures(self) -> list[str]:
        return [self.failed.pop() for _ in self.failed[:]]

    def settle(self) -> None:
        self.made.update(["DetachVolume"] * len(self.leaving))
        self.leaving.clear()


class _Cloud:
    """Shows every volume as available."""

    def volumes(self) -> list[VolumeFact]:
        return [VolumeFact("vol-1", "available", 1, "z", "gp3", "", {"Name": f"{m.VOLPLUG}-slow-0000"})]

    def volume(self, volume_id: str) -> VolumeFact:
        return next(each for each in self.volumes() if each.volume_id == volume_id)


def test_each_step_of_a_life_cycle_has_its_own_calls_and_those_after_its_answer() -> None:
    steps, results, group = Steps("slow"), Results(), _Group()
    lifecycles = Lifecycles(cast(RemoteEc2Cloud, _Cloud()), steps)
    lifecycles.run_one(m.VOLPLUG, group)
    lifecycles.run_many(m.VOLPLUG, group, 3)
    lifecycles.keep(results)
    expected = {
        steps.create: "1 + 1 (1 CreateVolume)",
        steps.first: "4 + 1 (1 AttachVolume, 2 CreateTags, 1 CreateVolume)",
        steps.gone: "1 + 0 (1 DetachVolume)",
        steps.mount: "1 + 0 (1 AttachVolume)",
        steps.again: "2 + 0 (1 AttachVolume, 1 DetachVolume)",
        steps.remove_now: "2 + 0 (1 DeleteVolume, 1 DetachVolume)",
        steps.remove: "1 + 0 (1 DeleteVolume)",
        steps.creates: "3 + 1 (3 CreateVolume)",
        steps.mounts: "9 + 0 (3 AttachVolume, 6 CreateTags)",
        steps.removes: "6 + 0 (3 DeleteVolume, 3 DetachVolume)",
    }
    assert set(expected) == set(steps.all)
    for step, text in expected.items():
        assert changes_and_reads(results.kinds[step.calls.key, m.VOLPLUG]) == text
        assert results.p50(step.took) is not None
    assert results.lacking == {}


def test_failed_and_repeated_operations_are_reported_with_their_figure() -> None:
    steps, results, group = Steps("quick"), Results(), _Group()
    lifecycles = Lifecycles(cast(RemoteEc2Cloud, _Cloud()), steps)
    group.failed = ["it is in use"]
    lifecycles.run_many(m.VOLPLUG, group, 3)
    lifecycles.keep(results)
    why = "1 failed and were repeated, the first with it is in use"
    assert results.lacking == {(steps.creates.took.key, m.VOLPLUG): why}
    assert results.p50(steps.creates.took) is not None


@pytest.mark.parametrize(
    ("answers", "error"), [([{"b": "in use"}, {}], ""), ([{"b": "in use"}] * 2, "twice")]
)
def test_a_call_that_fails_is_made_once_more(answers: list[dict[str, str]], error: str) -> None:
    asked: list[list[str]] = []

    def at_once(_verb: str, names: Sequence[str], **_: object) -> dict[str, str]:
        asked.append(list(names))
        return answers[len(asked) - 1]

    cloud = SimpleNamespace(calls=Calls())
    volplug = cast(CloudVolplug, SimpleNamespace(at_once=at_once))
    group = GroupByVolplug(volplug, cast(RemoteEc2Cloud, cloud), "i-1", poll_every_s=0)
    with pytest.raises(CallError, match=error) if error else nullcontext():
        group.mount(["a", "b"])
    assert asked == [["a", "b"], ["b"]]
    assert [group.failures(), group.failures()] == [["in use"], []]


class _Bare:
    """Shows volumes as creating for some reads after they were made."""

    def __init__(self, looks: int) -> None:
        self.looks_left = looks
        self.log: list[str] = []

    def require_absent(self, names: Sequence[str]) -> None:
        self.log.append("absent")

    def make(self, name: str) -> None:
        self.log.append(name)

    def shown(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        self.looks_left -= 1
        self.log.append("look")
        return {name: {"State": "creating" if self.looks_left else "available"} for name in names}


def test_the_bare_calls_poll_all_volumes_together_until_all_are_done() -> None:
    bare = _Bare(looks=3)
    cloud = SimpleNamespace(calls=Calls())
    GroupBySdk(cast(BySdk, bare), cast(RemoteEc2Cloud, cloud), "i-1", poll_every_s=0).create(["v"])
    assert bare.log == ["absent", "v", "look", "look", "look"]
