from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest


def run(*arguments):
    command = [sys.executable, "-m", "rap_evaluation.cli", "closed-loop", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_help_has_an_example():
    result = run("--help")
    assert result.returncode == 0
    assert "rap-evaluate closed-loop --planner pdm-closed --map Town02" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--map", "Atlantis"), "unknown town 'Atlantis'"),
        (("--map", "Town02", "--planner", "nobody"), "or a bundle folder, got 'nobody'"),
    ],
)
def test_bad_options_are_one_line_and_no_report(tmp_path, arguments, message):
    if importlib.util.find_spec("py123d") is None:
        pytest.skip("the towns are not installed: run make setup")
    result = run(*arguments, "--out", str(tmp_path / "out"))
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()
