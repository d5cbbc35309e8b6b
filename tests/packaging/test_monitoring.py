"""Grafana's dashboard and Prometheus' rules ask for metrics that exist, and alerts fire when they should."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import pytest
import yaml

from tests.api.test_metrics import everything, read

pytestmark = pytest.mark.api

_PACKAGING = Path(__file__).parents[2] / "packaging"
RULES = _PACKAGING / "prometheus" / "volplug.rules.yml"
DASHBOARD = _PACKAGING / "grafana" / "volplug.json"
_FAILED = (
    'volplug_operation_duration_seconds_count{instance="a", kind="mount", origin="docker", result="failed"}'
)
_DAY: Mapping[str, tuple[str, ...]] = {
    # What a host without trouble shows, at each minute.
    "": (
        'up{job="volplug", instance="a"} 1x60',
        'volplug_volumes_not_as_desired{instance="a", backend="b", desired="detached", failed="false"} 1x60',
        f"{_FAILED} 0+0.1x60",
        'volplug_operation_duration_seconds_bucket{instance="a", kind="mount", le="60.0"} 0+1x60',
        'volplug_operation_duration_seconds_bucket{instance="a", kind="mount", le="+Inf"} 0+1x60',
        'volplug_backend_calls_total{instance="a", backend="b", result="ok"} 0+9x60',
        'volplug_backend_calls_total{instance="a", backend="b", result="throttled"} 0+1x60',
        'volplug_backend_calls_total{instance="a", backend="b", result="unavailable"} 0+1x60',
        'volplug_volume_used_bytes{instance="a", volume="v"} 80x60',
        'volplug_volume_free_bytes{instance="a", volume="v"} 20x60',
        'volplug_volume_used_inodes{instance="a", volume="v"} 80x60',
        'volplug_volume_inodes{instance="a", volume="v"} 100x60',
        'volplug_volume_usage_age_seconds{instance="a", volume="v"} 10x60',
        'volplug_volumes_mounted{instance="a", backend="b"} 201x60',
        'volplug_volumes_without_usage{instance="a"} 1x60',
        'volplug_pool_calls{instance="a", pool="p"} 63x60',
        'volplug_pool_threads{instance="a", pool="p"} 64x60',
        'volplug_pool_calls{instance="a", pool="control"} 1x60',
        'volplug_pool_threads{instance="a", pool="control"} 1x60',
        'volplug_event_loop_lag_seconds_bucket{instance="a", le="0.5"} 0+60x60',
        'volplug_event_loop_lag_seconds_bucket{instance="a", le="+Inf"} 0+60x60',
    ),
    "VolplugDown": ('up{job="volplug", instance="a"} 0x60',),
    "VolplugStateNotReached": (
        'volplug_volumes_not_as_desired{instance="a", backend="b", desired="detached", failed="true"} 1x60',
    ),
    "VolplugCallsFail": (f"{_FAILED} 0+1x60",),
    "VolplugMountsSlow": (
        'volplug_operation_duration_seconds_bucket{instance="a", kind="mount", le="60.0"} 0+1x60',
        'volplug_operation_duration_seconds_bucket{instance="a", kind="mount", le="120.0"} 0+2x60',
        'volplug_operation_duration_seconds_bucket{instance="a", kind="mount", le="+Inf"} 0+2x60',
    ),
    "VolplugBackendUnavailable": (
        'volplug_backend_calls_total{instance="a", backend="b", result="ok"} 0+1x60',
        'volplug_backend_calls_total{instance="a", backend="b", result="unavailable"} 0+9x60',
    ),
    "VolplugThrottled": (
        'volplug_backend_calls_total{instance="a", backend="b", result="ok"} 0+6x60',
        'volplug_backend_calls_total{instance="a", backend="b", result="throttled"} 0+4x60',
    ),
    "VolplugVolumeFull": (
        'volplug_volume_used_bytes{instance="a", volume="v"} 95x60',
        'volplug_volume_free_bytes{instance="a", volume="v"} 5x60',
    ),
    "VolplugInodesUsedUp": (
        'volplug_volume_used_inodes{instance="a", volume="v"} 95x60',
        'volplug_volume_inodes{instance="a", volume="v"} 100x60',
    ),
    "VolplugDeviceHangs": ('volplug_volume_usage_age_seconds{instance="a", volume="v"} 0+60x60',),
    "VolplugUsageUnknown": (
        'volplug_volumes_mounted{instance="a", backend="b"} 3x60',
        'volplug_volumes_without_usage{instance="a"} 1x60',
    ),
    "VolplugThreadsUsedUp": (
        'volplug_pool_calls{instance="a", pool="p"} 64x60',
        'volplug_pool_threads{instance="a", pool="p"} 64x60',
    ),
    "VolplugEventLoopLate": (
        'volplug_event_loop_lag_seconds_bucket{instance="a", le="0.5"} 0+1x60',
        'volplug_event_loop_lag_seconds_bucket{instance="a", le="1.0"} 0+60x60',
        'volplug_event_loop_lag_seconds_bucket{instance="a", le="+Inf"} 0+60x60',
    ),
}

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus is not installed (make setup as root)",
)


def rules() -> dict[str, str]:
    """The expression of each alert."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def queries() -> dict[str, list[str]]:
    """The queries of each panel."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels}


def test_every_query_asks_for_metrics_that_exist() -> None:
    samples = {sample.name for family in read(everything()).values() for sample in family.samples}
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    texts = [*rules().values(), *chain(*queries().values()), *(each["query"] for each in variables)]
    asked = {name for text in texts for name in re.findall(r"\b(?:volplug|process)_\w+", text)}
    assert asked <= samples
    shown = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in asked}
    served = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in samples}
    assert {name for name in served - shown if name.startswith("volplug_")} == set()


@needs_prometheus
def test_each_alert_fires_on_its_trouble_and_none_without(tmp_path: Path) -> None:
    assert set(_DAY) == {"", *rules()}
    tests = [
        {
            "interval": "1m",
            "input_series": [_series(line) for line in lines],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": "50m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else [],
                }
            ],
        }
        for alert, lines in _DAY.items()
    ]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(file)]):
        done = subprocess.run(["promtool", *command], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def _series(line: str) -> dict[str, str]:
    series, _, values = line.rpartition(" ")
    return {"series": series, "values": values}
