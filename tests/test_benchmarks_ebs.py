"""The pure parts of the benchmark of volumes on EBS."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks import measures as m
from benchmarks.client import CallError
from benchmarks.ebs import measures as e
from benchmarks.ebs.site import config_text
from benchmarks.ebs.taken import Taken, in_turns
from benchmarks.ebs.ways import Way, tags_for
from benchmarks.measures import Results
from tests.ec2sim import Instance, RemoteEc2Cloud
from volplug.config import load_settings
from volplug.drivers.base import BackendConfig
from volplug.drivers.ebs.settings import load_settings as load_ebs_settings


def test_what_volplug_adds_is_the_difference_of_neighbouring_runs() -> None:
    taken, results = Taken(), Results()
    for ours, bare in ((11.0, 1.0), (32.0, 2.0), (23.0, 3.0)):
        taken.note(e.CREATE, m.VOLPLUG, ours)
        taken.note(e.CREATE, m.SDK, bare)
    taken.keep(results, e.CREATE, e.CREATE_ADDED)
    assert results.p50(e.CREATE) == 23
    assert results.p50(e.CREATE, m.SDK) == 2
    assert results.p50(e.CREATE_ADDED) == 20


def test_ratios_are_taken_run_by_run_of_each_way() -> None:
    taken, results = Taken(), Results()
    for peer, one, many in ((m.VOLPLUG, 2.0, 6.0), (m.SDK, 4.0, 4.0)):
        taken.note(e.ONE, peer, one)
        taken.note(e.MANY, peer, many)
    taken.keep_ratios(results, e.MANY_RATIO, e.MANY, e.ONE)
    assert (results.p50(e.MANY_RATIO), results.p50(e.MANY_RATIO, m.SDK)) == (3, 1)


def test_each_way_goes_round_its_own_volumes_and_comes_first_in_its_turn() -> None:
    done: list[str] = []
    ways = {"a": cast(Way, None), "b": cast(Way, None)}
    in_turns(3, ways, {"a": ["a1", "a2"], "b": ["b1"]}, lambda _peer, _way, name: done.append(name))
    assert done == ["a1", "b1", "b1", "a2", "a1", "b1"]


def test_a_way_that_fails_ends_the_benchmark() -> None:
    def fail(*_: Any) -> None:  # noqa: ANN401  # whatever it is given
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
        secret_key='S"K',  # noqa: S106  # of nobody
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
        BackendConfig("ebs", "node", settings.cluster, tmp_path, backend.driver_settings), {}
    )
    assert (read.secret_key, str(read.sys_root), read.imds_endpoint) == ('S"K', "/s", "http://i-1")
