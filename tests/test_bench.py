"""The benchmarks' programs run, and their table says what they found. How fast anything is, is not judged here."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCH = Path(__file__).parents[1] / "bench"
PROMISED = {
    "path", "path_10k_devices", "path_tls", "window_1", "tables_ratio", "fanout_1000", "fanout_5000",
    "latency_p50_ms", "latency_p99_ms", "ready_s", "idle_mb", "memory_10k_devices_mb", "log_bytes_per_reading",
}  # fmt: skip


FIGURES = SimpleNamespace(**runpy.run_path(str(BENCH / "figures.py")))


def suite(*options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, BENCH / "suite.py", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def measured(*options: str) -> dict[str, dict]:
    done = suite("--quick", "--alone", "--json", *options)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report) == {"machine", "rows"}
    assert all(set(row) == {"name", "value", "unit", "runs", "peers", "ratio"} for row in report["rows"])
    return {row["name"]: row for row in report["rows"]}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_promised_figure_is_measured():
    rows = measured()
    assert rows.keys() >= PROMISED
    assert not [name for name in rows if name.startswith("growth_")]
    assert all(row["value"] > 0 and row["runs"] == [row["value"]] for row in rows.values())
    assert {name for name, row in rows.items() if row["peers"]} == {name for name in rows if name.startswith("tables_")}
    assert all(list(row["peers"]) == ["seed"] for row in rows.values() if row["peers"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_growth_is_measured_by_fleet_and_by_what_the_log_holds():
    sizes = [("1k_devices", "10k_devices"), ("1k_devices_fed", "10k_devices_fed", "100k_devices_fed")]
    sizes += [("1m_events", "10m_events", "100m_events")]
    names = [f"growth_{size}" for series in sizes for size in series]
    assert list(measured("--only", ",".join(names))) == names


def test_a_row_that_there_is_not_is_refused_by_name():
    done = suite("--only", "path,pace")
    assert done.returncode == 1
    assert "there is no row pace; there are path, path_one_process, " in done.stderr


@pytest.mark.parametrize(
    ("promise", "value", "ratio", "met"),
    [
        ({"limit": 100}, 100, None, True),
        ({"limit": 100}, 99, 5.0, False),
        ({"limit": 30, "most": True}, 30, None, True),
        ({"limit": 30, "most": True}, 31, None, False),
        ({"limit": 1.4, "of_ratio": True}, 5, 1.4, True),
        ({"limit": 1.4, "of_ratio": True}, 5, 1.3, False),
        ({"limit": 1.4, "of_ratio": True}, 5, None, False),
        ({"limit": 1.2, "most": True, "of_ratio": True}, 5, 1.21, False),
    ],
)
def test_a_target_is_met_from_its_limit_on_in_its_direction(promise, value, ratio, met):
    assert FIGURES.Target(**promise).met(FIGURES.Row("name", value, "unit", [value], ratio=ratio)) is met


def test_a_row_is_the_median_of_its_runs_and_compares_with_the_best_peer():
    row = FIGURES.row("name", "messages/s", [30.0, 10.0, 20.0], {"nats": [4.0, 6.0, 5.0], "aedes": [2.0], "ws": []})
    assert (row.value, row.runs) == (20.0, [30.0, 10.0, 20.0])
    assert row.peers == {"nats": 5.0, "aedes": 2.0}
    assert row.ratio == 4.0
