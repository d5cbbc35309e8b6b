"""Volumes on EBS: everything that is measured, in its order."""

from contextlib import ExitStack
from typing import Final

from benchmarks import measures as m
from benchmarks import processes
from benchmarks.client import request
from benchmarks.clouds import ByVolplug
from benchmarks.ebs import measures as e
from benchmarks.ebs import turns
from benchmarks.ebs.cluster import Cluster
from benchmarks.ebs.counting import measure_idle
from benchmarks.ebs.groups import GroupBySdk, GroupByVolplug
from benchmarks.ebs.lifecycles import measure_states
from benchmarks.ebs.testbed import add_instance, is_bare, served, volplug_on
from benchmarks.ebs.ways import POLL_S, BySdk
from benchmarks.measures import Results
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.report import show
from benchmarks.samples import Samples
from tests.ec2sim import Instance, RemoteEc2Cloud
from tests.lab.waiting import wait_until

_SEARCH_TIMEOUT_S: Final = 30.0
_MINUTE_S: Final = 60.0


def measure_ebs(results: Results, plan: Plan, where: Place) -> None:
    """Measure everything."""
    with ExitStack() as stack:
        cloud = stack.enter_context(served(where))
        show("first calls")
        _measure_first(results, plan, where, cloud)
        instance = add_instance(cloud, 2)
        volplug = stack.enter_context(volplug_on(instance, where, "volplug-ebs", cloud, poll_s=POLL_S))
        processes.measure_memory(results, e.RSS_START, {m.VOLPLUG: volplug})
        client = stack.enter_context(volplug.connect()).with_room()
        ours = ByVolplug(volplug, client, lambda: is_bare(instance))
        _await_search(cloud, instance)
        names = turns.names_for(plan)
        for each in names.values():
            turns.prepare(ours, each)
        tags = next(fact.tags for fact in cloud.volumes())
        other = add_instance(cloud, 3)
        bare = BySdk(cloud, other, where.directory / "targets", tags)
        ways: turns.Ways = {m.VOLPLUG: ours, m.SDK: bare}
        show("create and remove")
        turns.measure_lives(results, plan, ways)
        show("mounts")
        turns.measure_mounts(results, plan, ways, names)
        turns.measure_late(results, plan, cloud, ways, names)
        processes.measure_memory(results, e.RSS_SOME, {m.VOLPLUG: volplug})
        show("mounts at once")
        turns.measure_many(results, plan, cloud, ways, names)
        show("slow and quick states")
        calls = GroupBySdk(bare, cloud, other.instance_id, plan.second_s)
        _measure_states(results, plan, where, cloud, calls)
        show("1,000 volumes")
        ours.mount(names[m.VOLPLUG][0])
        Cluster(results, plan, cloud, client, bare).measure(*names[m.VOLPLUG][:2])
        processes.measure_memory(results, e.RSS_WORK, {m.VOLPLUG: volplug})
        show(f"{plan.idle_s:g} s idle")
        measure_idle(results, plan, cloud, volplug)
        ours.unmount(names[m.VOLPLUG][0])
        ours.wait_detached(names[m.VOLPLUG][0])


def _measure_first(results: Results, plan: Plan, where: Place, cloud: RemoteEc2Cloud) -> None:
    samples, instance = Samples(), add_instance(cloud, 1)
    for number in range(plan.starts):
        volplug = volplug_on(instance, where, f"first-{number}", cloud, mount_grace_s=_MINUTE_S)
        with volplug, volplug.connect() as client:
            client.call("Capabilities")
            client.send(request("Get", {"Name": "nothing"}))  # that it is an error does not matter
            samples.time(e.FIRST, m.VOLPLUG, client.receive)
    samples.keep(results, e.FIRST)


def _measure_states(
    results: Results, plan: Plan, where: Place, cloud: RemoteEc2Cloud, bare: GroupBySdk
) -> None:
    """Measure lifecycles with a volplug of their own: they leave the memory of the other one as it is."""
    instance = add_instance(cloud, 4)
    with volplug_on(instance, where, "volplug-lifecycles", cloud, poll_s=plan.second_s) as volplug:
        ours = GroupByVolplug(volplug, cloud, instance.instance_id, plan.second_s)
        _await_search(cloud, instance)
        ours.create(["warm"])  # the SDK is set up, and the first look-ups are over
        ours.remove(["warm"])
        measure_states(results, plan, cloud, {m.VOLPLUG: ours, m.SDK: bare})


def _await_search(cloud: RemoteEc2Cloud, instance: Instance) -> None:
    def has_searched() -> bool:
        return cloud.calls.counts(instance.instance_id).total() > 1  # the check at the start is the first

    wait_until(has_searched, _SEARCH_TIMEOUT_S, "volplug has searched once")
