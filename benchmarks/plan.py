"""How often everything is done: the whole run, or a quick one that only shows that all of it works."""

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
        pairs: Mount and Unmount pairs in each turn.
        volumes: Volumes of the first mounts and of the parallel ones.
        parallel_rounds: Turns of the parallel mounts.
        lives: Whole lives of volumes on EBS.
        parallel_lives: Lives of as many volumes at once as there are `volumes`.
        second_s: How long a second of EC2's slow states is.
        runs: `docker run --rm` of each peer.
        idle_s: How long nothing is asked.
    """

    starts: int
    rounds: int
    calls: int
    lists: Mapping[str, Listing]
    list_rounds: int
    pairs: int
    volumes: int
    parallel_rounds: int
    lives: int
    parallel_lives: int
    second_s: float
    runs: int
    idle_s: float


FULL = Plan(
    starts=7,
    rounds=20,
    calls=200,
    lists={"list.10": Listing(10, 50), "list.1000": Listing(1000, 20), "list.10000": Listing(10_000, 3)},
    list_rounds=10,
    pairs=8,
    volumes=50,
    parallel_rounds=5,
    lives=3,
    parallel_lives=2,
    second_s=1,
    runs=15,
    idle_s=60,
)
QUICK = Plan(
    starts=1,
    rounds=2,
    calls=10,
    lists={"list.10": Listing(2, 5), "list.1000": Listing(5, 2), "list.10000": Listing(10, 2)},
    list_rounds=2,
    pairs=2,
    volumes=4,
    parallel_rounds=1,
    lives=1,
    parallel_lives=1,
    second_s=0.1,
    runs=1,
    idle_s=1,
)
