"""Repetitions: of the full run, or of a quick one that only shows that everything works."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listing:
    """How many volumes are listed, and how often in each turn."""

    volumes: int
    calls: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of one run.

    Attributes:
        starts: Starts of each peer.
        rounds: How often each peer gets its turn.
        calls: Small calls in each turn.
        lists: How List is measured, by its measure's key.
        list_rounds: Turns of List.
        settled_s: Pause before List, after which volplug caches it.
        pairs: Mount and Unmount pairs in each turn.
        volumes: Volumes of the first mounts and of the parallel ones.
        parallel_rounds: Turns of the parallel mounts.
        lifecycles: Life cycles of volumes on EBS.
        parallel_lifecycles: Life cycles of `volumes` volumes at once.
        second_s: Length of a second in EC2's slow states, and of its devices that come late.
        runs: `docker run --rm` of each peer.
        idle_s: Length of the idle measurement.
        sustained_s: How long the control API gets requests without a pause.
    """

    starts: int
    rounds: int
    calls: int
    lists: Mapping[str, Listing]
    list_rounds: int
    settled_s: float
    pairs: int
    volumes: int
    parallel_rounds: int
    lifecycles: int
    parallel_lifecycles: int
    second_s: float
    runs: int
    idle_s: float
    sustained_s: float


FULL = Plan(
    starts=7,
    rounds=20,
    calls=200,
    lists={"list.10": Listing(10, 50), "list.1000": Listing(1000, 20), "list.10000": Listing(10_000, 3)},
    list_rounds=10,
    settled_s=1.5,  # no list of a directory that was changed within the last second is cached
    pairs=8,
    volumes=50,
    parallel_rounds=5,
    lifecycles=3,
    parallel_lifecycles=2,
    second_s=1,
    runs=15,
    idle_s=60,
    sustained_s=60,
)
QUICK = Plan(
    starts=1,
    rounds=1,
    calls=10,
    lists={"list.10": Listing(2, 5), "list.1000": Listing(5, 2), "list.10000": Listing(10, 2)},
    list_rounds=2,
    settled_s=0,
    pairs=2,
    volumes=2,
    parallel_rounds=1,
    lifecycles=1,
    parallel_lifecycles=1,
    second_s=0.05,
    runs=1,
    idle_s=0.2,
    sustained_s=0.2,
)
