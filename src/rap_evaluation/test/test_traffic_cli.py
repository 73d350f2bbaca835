from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from rap_evaluation.logs.drive_log import DriveLog

needs_sumo = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("libsumo", "sumo", "py123d")),
    reason="SUMO or the towns are not installed: run make setup",
)


def run(*arguments, **environment):
    command = [sys.executable, "-m", "rap_evaluation.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=environment or None
    )


@needs_sumo
def test_record_writes_a_log_and_says_what_is_in_it(tmp_path):
    out = tmp_path / "log"
    result = run(
        "record", "--map", "Town02", "--seconds", "10", "--vehicles", "20", "--pedestrians", "5",
        "--seed", "2", "--out", str(out), XDG_CACHE_HOME=str(tmp_path / "cache"),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{out}: 100 steps, ")
    assert len(result.stdout.splitlines()) == 1
    log = DriveLog.open(out)
    assert (log.name, log.map.name, len(log.stamps_ns)) == ("Town02-seed2", "Town02", 100)


@pytest.mark.parametrize(
    ("map_name", "message"),
    [
        ("Atlantis", "unknown town 'Atlantis'"),
        ("missing.xodr", "missing.xodr: cannot be read"),
    ],
)
def test_bad_map_is_one_line_and_no_log(tmp_path, map_name, message):
    if importlib.util.find_spec("py123d") is None:
        pytest.skip("the towns are not installed: run make setup")
    result = run("record", "--map", map_name, "--out", str(tmp_path / "log"))
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "log").exists()


def test_help_has_an_example():
    result = run("record", "--help")
    assert result.returncode == 0
    assert "rap-evaluate record --map Town01" in result.stdout
