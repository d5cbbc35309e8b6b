"""The benchmark works from end to end, and judges its figures."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measures as m
from benchmarks.chapters import CHAPTERS, Chapter, assembled, split
from benchmarks.client import PluginClient, decoded
from benchmarks.measures import Results, figure, interleaved
from benchmarks.peers import Rclone
from benchmarks.targets import TARGETS, breakdown, judge
from tests.lab.openstack.shared import CINDER
from tests.lab.requirements import ENGINE, ZFS

ROOT = Path(__file__).parents[1]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("loop", "api", "ebs"), id="loop-api-ebs"),
        pytest.param(("zfs",), id="zfs", marks=ZFS),
        # It starts an OpenStack of its own.
        pytest.param(("cinder",), id="cinder", marks=[pytest.mark.timeout(900), pytest.mark.slow, *CINDER]),
    ],
)
def parts(request: pytest.FixtureRequest) -> Sequence[str]:
    """The parts of one run."""
    parts: Sequence[str] = request.param
    return parts


@pytest.fixture(scope="module")
def chapters(parts: Sequence[str]) -> Sequence[Chapter]:
    """The chapters of these parts."""
    return [each for each in CHAPTERS if each.name in parts]


@pytest.fixture(scope="module")
def report(parts: Sequence[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The JSON and the page of a quick run in a process of its own, with a network of its own."""
    directory = tmp_path_factory.mktemp("bench")
    files = ["--json", str(directory / "bench.json"), "--docs", str(directory / "benchmarks.md")]
    argv = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    argv += [sys.executable, "-m", "benchmarks", "--quick", *(f"--part={part}" for part in parts), *files]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert run.returncode == 0, run.stderr
    return json.loads((directory / "bench.json").read_text()), (directory / "benchmarks.md").read_text()


@pytest.mark.timeout(240)
class TestQuickRun:
    pytestmark = ENGINE

    def test_every_measure_has_a_figure_of_volplug(
        self, report: tuple[dict[str, Any], str], chapters: Sequence[Chapter]
    ) -> None:
        figures = {each["measure"]: each for each in report[0]["figures"] if each["peer"] == m.VOLPLUG}
        measures = [each for chapter in chapters for each in chapter.measures]
        assert [each.key for each in measures if each.key not in figures] == []
        assert all(each["count"] > 0 and each["p50"] <= each["p99"] for each in figures.values())

    def test_every_target_is_judged_unless_its_peer_is_not_installed(
        self, report: tuple[dict[str, Any], str], chapters: Sequence[Chapter]
    ) -> None:
        verdicts = report[0]["targets"]
        targets = [target for chapter in chapters for target in chapter.targets]
        assert [each["measure"] for each in verdicts] == [target.measure.key for target in targets]
        unjudged = {each["measure"]: each["why"] for each in verdicts if each["is_met"] is None}
        expected = Rclone.why_not_here()
        by_rclone = {each.measure.key for each in targets if each.of and each.of[1] == m.RCLONE}
        assert set(unjudged) == (by_rclone if expected else set())
        assert all(expected in why for why in unjudged.values())

    def test_the_page_shows_every_target_and_every_measure(
        self, report: tuple[dict[str, Any], str], chapters: Sequence[Chapter]
    ) -> None:
        page = report[1]
        assert "<!--" not in page
        rows = [
            line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ")
        ]
        for chapter in chapters:
            for measure in [target.measure for target in chapter.targets] + list(chapter.measures):
                assert measure.title in rows


def test_the_page_in_the_repository_judges_every_target() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for target in [target for chapter in CHAPTERS for target in chapter.targets]:
        row = rf"^\| {re.escape(target.measure.title)} \|.*\| (met|\*\*missed\*\*|not measured) \|$"
        assert re.search(row, page, re.MULTILINE), target.measure.title


def test_a_target_is_met_up_to_its_limit_and_missed_above_it() -> None:
    target = next(each for each in TARGETS if each.measure is m.LIST_1000)
    for value, is_met in ((0.3, True), (0.301, False)):
        results = Results()
        results.add(m.LIST_1000, m.RCLONE, [1.0])
        results.add(m.LIST_1000, m.VOLPLUG, [value])
        verdict = judge(target, results)
        assert verdict.is_met is is_met
        assert verdict.limit == pytest.approx(0.3)


def test_a_ratio_to_a_missing_figure_is_not_judged_and_has_a_reason() -> None:
    target = next(each for each in TARGETS if each.measure is m.LIST_1000)
    results = Results()
    results.add(m.LIST_1000, m.VOLPLUG, [0.1])
    results.lack(m.LIST_1000, m.RCLONE, "it is not installed")
    verdict = judge(target, results)
    assert (verdict.is_met, verdict.why) == (None, "rclone not measured: it is not installed")


def test_the_parts_of_a_measure_add_up_to_it() -> None:
    target = next(each for each in TARGETS if each.measure is m.GET_DETACHED)
    results = Results()
    for measure, peer, value in (
        (m.CONSTANT, m.ECHO, 1.0),
        (m.CONSTANT, m.VOLPLUG, 3.0),
        (m.GET_MOUNTED, m.VOLPLUG, 7.0),
        (m.GET_DETACHED, m.VOLPLUG, 20.0),
    ):
        results.add(measure, peer, [value])
    assert [value for _, value in breakdown(target, results)] == [1.0, 2.0, 4.0, 13.0]


@pytest.mark.parametrize(
    ("samples", "p50", "p99"),
    [([5.0], 5.0, 5.0), ([1.0, 2.0], 1.0, 2.0), ([float(n) for n in range(1, 101)], 50.0, 99.0)],
)
def test_percentiles_are_samples(samples: list[float], p50: float, p99: float) -> None:
    found = figure(samples)
    assert (found.p50, found.p99, found.count) == (p50, p99, len(samples))


def test_every_peer_comes_first_in_its_turn_and_one_that_fails_is_left_out() -> None:
    order: list[str] = []

    def act(peer: str) -> Sequence[float]:
        order.append(peer)
        if peer == "b" and order.count("b") == 2:
            raise OSError("gone")
        return [1.0]

    samples, failures = interleaved(3, {peer: partial(act, peer) for peer in "abc"})
    assert "".join(order) == "abc" + "bca" + "ca"
    assert failures == {"b": "gone (round 2)"}
    assert samples == {"a": [1.0] * 3, "b": [1.0], "c": [1.0] * 3}


def test_the_client_reads_whole_answers_in_chunks_and_with_a_length(tmp_path: Path) -> None:
    long = b'{"a": "' + b"x" * 5000 + b'"}'
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(long), long),
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"b":\r\n3\r\n 1}\r\n0\r\n\r\n',
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                for answer in answers:
                    peer.recv(1000)
                    for start in range(0, len(answer), 700):
                        peer.sendall(answer[start : start + 700])

        thread = threading.Thread(target=serve)
        thread.start()
        with PluginClient(tmp_path / "s") as client:
            client.send(b"1")
            assert len(decoded(client.receive())["a"]) == 5000
            client.send(b"2")
            assert decoded(client.receive()) == {"b": 1}
        thread.join()


def test_a_chapter_that_was_measured_alone_leaves_the_others_of_the_page_unchanged() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    before = split(page)
    assert list(before) == [each.name for each in CHAPTERS]
    assert assembled(page, {}) == page
    for chapter in CHAPTERS:
        head = chapter.template.read_text().partition("\n")[0]
        after = split(assembled(page, {chapter.name: f"{head}\n\nnew\n"}))
        assert after == {**before, chapter.name: f"{head}\n\nnew\n"}


def test_no_two_measures_of_the_page_have_one_name() -> None:
    keys = [each.key for chapter in CHAPTERS for each in chapter.measures]
    titles = [each.title for chapter in CHAPTERS for each in chapter.measures]
    assert len(set(keys)) == len(keys)
    assert len(set(titles)) == len(titles)
