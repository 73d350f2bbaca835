from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from rap_evaluation import cli

CASES = Path(__file__).parent / "cases"

EXACT = {
    "two_frame_extended_comfort",
    "inside_trust_region",
    "mapping",
    "status",
    "num_infractions",
}


def read(name):
    return json.loads(gzip.decompress((CASES / name).read_bytes()))["cases"]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["rap-evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def values(node, path=()):
    """Returns every leaf of nested dicts and lists by its path."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return {path: node}
    return {key: leaf for name in node for key, leaf in values(node[name], (*path, name)).items()}


def is_equal(path, expected, got, tolerance):
    if path[0] in EXACT or expected is None or isinstance(expected, str):
        return got == expected
    return got == pytest.approx(expected, abs=tolerance, rel=0)


@pytest.mark.parametrize(
    ("metric", "name", "tolerance", "leaves"),
    [
        ("two-stage", "two_stage.json.gz", 1e-6, 321),
        ("extended-comfort", "extended_comfort.json.gz", 1e-6, 150),
        ("rfs", "rfs.json.gz", 1e-9, 1186),
        ("bench2drive", "bench2drive.json.gz", 1e-6, 168),
    ],
)
def test_every_value_of_the_official_code_is_reproduced(
    tmp_path, monkeypatch, *, metric, name, tolerance, leaves
):
    out = tmp_path / "new folder" / "out.json"
    assert run(monkeypatch, metric, CASES / name, "--out", out) == 0
    results = json.loads(out.read_text())["cases"]
    cases = read(name)
    assert list(results) == [case["name"] for case in cases]
    compared, wrong = 0, []
    for case in cases:
        if "error" in case["expected"]:  # The official code refuses this input.
            assert results[case["name"]]["error"]
            continue
        got = values(results[case["name"]])
        for path, expected in values(case["expected"]).items():
            if path[0] == "inside_trust_region" and case["name"].endswith("_x1.0"):
                continue  # Exactly on the border, where rounding decides.
            compared += 1
            if path not in got or not is_equal(path, expected, got[path], tolerance):
                wrong.append((case["name"], path, expected, got.get(path)))
    assert not wrong
    assert compared == leaves


def test_summary_counts_cases_and_lists_what_was_not_scored(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.json"
    run(monkeypatch, "rfs", CASES / "rfs.json.gz", "--out", out)
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{out}: 150 cases, 1 not scored, ")
    assert printed.out.count("\n") == 1
    assert printed.err == "wrong_length: input: prediction: expected 20 points, got 19\n"


@pytest.mark.parametrize("metric", ["two-stage", "extended-comfort", "rfs", "bench2drive"])
def test_help_has_an_example(monkeypatch, capsys, metric):
    assert run(monkeypatch, metric, "--help") == 0
    assert f"rap-evaluate {metric} " in capsys.readouterr().out


def test_file_of_another_metric_is_one_line_and_no_output(tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    text = run(monkeypatch, "rfs", CASES / "two_stage.json.gz", "--out", out)
    assert text.startswith("rap-evaluate: ")
    assert text.endswith("two_stage.json.gz: metric: expected 'rfs', got 'two-stage'")
    assert not out.exists()


def test_one_bad_case_does_not_lose_the_others(tmp_path, monkeypatch):
    cases = read("rfs.json.gz")[:3]
    whole = tmp_path / "whole.json"
    write(whole, "rfs", cases)
    del cases[1]["input"]["init_speed"]
    broken = tmp_path / "broken.json"
    write(broken, "rfs", cases)
    for path in (whole, broken):
        assert run(monkeypatch, "rfs", path, "--out", path.with_suffix(".out")) == 0
    expected = json.loads(whole.with_suffix(".out").read_text())["cases"]
    expected[cases[1]["name"]] = {"error": "input: init_speed: Field required"}
    assert json.loads(broken.with_suffix(".out").read_text())["cases"] == expected


def write(path, metric, cases):
    path.write_text(json.dumps({"schema": "rap.cases/1", "metric": metric, "cases": cases}))


def changed(metric_file, index, path, value):
    """Returns one case's input with a value replaced, or removed where `value` is None."""
    content = read(metric_file)[index]["input"]
    node = content
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return content


NAN = float("nan")


@pytest.mark.parametrize(
    ("metric", "name", "index", "path", "value", "message"),
    [
        ("rfs", "rfs", 0, ("prediction", 4, 1), NAN, "prediction.4.1: Input should be a finite"),
        ("rfs", "rfs", 0, ("prediction", 4, 1), float("inf"), "prediction.4.1: Input should be"),
        ("rfs", "rfs", 0, ("prediction", 4, 1), 1e300, "prediction.4.1: Input should be less"),
        ("rfs", "rfs", 0, ("prediction", 4), [1.0], "prediction.4.1: Field required"),
        ("rfs", "rfs", 0, ("prediction",), None, "expected either prediction or predictions"),
        ("rfs", "rfs", 0, ("predictions",), [[[0, 0]]], "either prediction or predictions"),
        ("rfs", "rfs", 0, ("rater_scores",), [9, 6], "rater_scores: expected 3 of them"),
        ("rfs", "rfs", 0, ("rater_trajectories", 1), [], "rater_trajectories.1: List should have"),
        ("rfs", "rfs", 0, ("init_speed",), "8", "init_speed: Input should be a valid number"),
        ("rfs", "rfs", 0, ("init_speed",), True, "init_speed: Input should be a valid number"),
        ("two-stage", "two_stage", 1, ("kind",), "three", "kind: Input should be 'one_stage'"),
        ("two-stage", "two_stage", 1, ("mapping",), None, "mapping: Field required"),
        ("two-stage", "two_stage", 1, ("mapping", 0, 0), "who", "'who' is not among the frames"),
        ("two-stage", "two_stage", 1, ("mapping", 0, 0), "prev0", "'prev0' is there 2 times"),
        ("two-stage", "two_stage", 1, ("mapping", 0, 2), [], "mapping.0.2: List should have"),
        ("two-stage", "two_stage", 1, ("rows", 0, "token"), "prev0", "'prev0' is there 2 times"),
        ("two-stage", "two_stage", 1, ("rows", 0, "valid"), False, "rows.0.valid: Input should"),
        ("two-stage", "two_stage", 1, ("rows", 0, "start_time"), 10.2, "'orig0' is 0.7 s after"),
        ("two-stage", "two_stage", 1, ("rows", 0, "start_time"), 9.5, "'orig0' is 0 s after"),
        ("two-stage", "two_stage", 1, ("rows", 1, "ego_simulated_states", 40), None,
         "rows.1.ego_simulated_states: List should have at least 41 items"),
        ("extended-comfort", "extended_comfort", 0, ("overlap_start",), 0,
         "overlap_start: Input should be greater"),
        ("extended-comfort", "extended_comfort", 0, ("current_states", 3, 2), NAN,
         "current_states.3.2: Input should be a finite number"),
        ("bench2drive", "bench2drive", 0, ("kind",), None, "kind: Field required"),
        ("bench2drive", "bench2drive", 0, ("events", 1, "type"), "UFO", "events.1: Input tag"),
        ("bench2drive", "bench2drive", 0, ("events", 0, "route_completed"), None,
         "events.0.ROUTE_COMPLETION.route_completed: Field required"),
        ("bench2drive", "bench2drive", 10, ("metric_info", "3", "forward_vector", 2), None,
         "metric_info.3.forward_vector.2: Field required"),
        ("bench2drive", "bench2drive", 31, ("metric_info", "sv1"), None, "metric_info.sv1: Field"),
    ],
)  # fmt: skip
def test_malformed_case_says_which_field(
    tmp_path, monkeypatch, *, metric, name, index, path, value, message
):
    content = changed(f"{name}.json.gz", index, path, value)
    source, out = tmp_path / "cases.json", tmp_path / "out.json"
    write(source, metric, [{"name": "bad", "input": content}])
    assert run(monkeypatch, metric, source, "--out", out) == 0
    error = json.loads(out.read_text())["cases"]["bad"]["error"]
    assert message in error
    assert "\n" not in error
