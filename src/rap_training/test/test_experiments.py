"""Experiments: what is the same is trained once, resumed, and reported as it is."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from rap_evaluation.logs.drive_log import LogError
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.recorder import record
from rap_evaluation.traffic.simulation import RecordOptions
from rap_evaluation.traffic.towns import map_path
from rap_training import experiment_commands, revision
from rap_training.experiment_commands import experiment_command
from rap_training.experiments import run as run_module
from rap_training.experiments.comparison import arms_of
from rap_training.experiments.intervals import (
    Estimate,
    bootstrapped,
    bootstrapped_difference,
    estimated,
)
from rap_training.experiments.page import write_page
from rap_training.experiments.plan import PlanError, load_catalog, runs_of
from rap_training.experiments.result import (
    PROTOCOL,
    ClosedLoopResult,
    ResultError,
    RunResult,
    read_result,
    result_path,
    write_result,
)
from rap_training.experiments.run import (
    RunError,
    Workplace,
    closed_loop_result,
    run_missing,
    with_egos,
)
from rap_training.experiments.verdict import Verdict, judge
from rap_training.export import export_bundle
from rap_training.fit import load_model
from rap_training.revision import code_revision

pytestmark = pytest.mark.slow

T_95_2_DEGREES = 2.919986
"""Student's t, 95 percent, two degrees of freedom: any printed table."""

BASE = {
    "seeds": 3,
    "egos_per_log": 2,
    "evaluation": {"scenes": 2, "moments": 3, "routes": 1},
    "training": {
        "model": {
            "backbone": {"widths": [8, 16, 16]},
            "feature_channels": 16,
            "width": 32,
            "query_width": 16,
            "proposals": 8,
            "braking_mps2": [2.0, 6.0],
            "selection": {"imitation": 1.0},
        },
        "data": {"image_size": [64, 32], "cameras": {"share": 0.0}},
        "optimizer": {"steps": 4, "batch_size": 2},
        "loss": {"scored_share": 0.0},
    },
}
NO_RECOVERY = {"data": {"sources": {"recovery": {"weight": 0.0}}}}
RECOVERY = {
    "title": "Recovery",
    "question": "With and without.",
    "arms": {"without": {"training": NO_RECOVERY}, "with": {}},
    "claims": [{"better": "with", "than": "without", "by": ["epdms"]}],
}
OTHERS = {
    "title": "Others",
    "question": "With and without.",
    "arms": {
        "none": {"training": {"data": {"sources": {"cross_agent": {"weight": 0.0}}}}},
        "usual": {"closed_loop": True},
    },
    "claims": [],
}


@pytest.fixture
def folder(tmp_path):
    """Two experiments with one arm in common."""
    path = tmp_path / "experiments"
    path.mkdir()
    for name, content in (("base", BASE), ("recovery", RECOVERY), ("others", OTHERS)):
        (path / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def catalog(folder):
    return load_catalog(folder)


def result_of(run, epdms: float, scenes=(0.0, 1.0), **changes) -> RunResult:
    """A made-up result: only the figures that a test is about matter."""
    usual = {
        "revision": "0123abc",
        "key": run.recipe.key,
        "seed": run.seed,
        "arms": run.arms,
        "recipe": {},
        "training_logs": {"Town01-seed1": "aaaa"},
        "validation_logs": {"Town02-seed1": "bbbb"},
        "steps": 4,
        "samples": 8,
        "training_s": 90.0,
        "evaluation_s": 1.0,
        "losses": {"total": 1.0},
        "pseudo_sim": {
            "epdms": epdms,
            "stage_one": {"score": 0.5},
            "stage_two": {
                "score": 0.4,
                "drivable_area_compliance": 0.9,
                "no_at_fault_collisions": 0.8,
            },
            "off_path": {"score": 0.3, "starts": 8},
            "scenes": len(scenes),
            "failed": 2,
            "effective_samples": 5.0,
            "uniform_groups": 0,
            "groups": 4,
            "scene_names": [f"scene{k}" for k in range(len(scenes))],
            "per_scene": {"epdms": tuple(scenes)},
        },
        "open_loop": {"moments": 3, "ade_3s_m": 1.0, "min_ade_3s_m": 0.4},
        "closed_loop": None,
    }
    return RunResult(**(usual | changes))


def driven(score: float) -> dict[str, object]:
    return {
        "routes": 2, "completed": 1, "clean_routes": 0, "off_road": 3, "collisions_at_fault": 2,
        "red_lights": 0, "driving_score": score, "driven_km": 0.5, "simulation_errors": 0,
        "per_route": {"Town02/0": score},
    }  # fmt: skip


def test_keys_are_hashes_of_all_that_decides_the_figures_but_the_seed(catalog):
    """Computed anew from the definition."""
    recipe = catalog["recovery"].recipe("without")
    content = {"protocol": PROTOCOL} | json.loads(recipe.model_dump_json())
    assert content["training"]["data"]["sources"]["recovery"]["weight"] == 0.0
    assert content["training"]["optimizer"].pop("seed") == 1
    shuffled = dict(reversed(content.items()))
    text = json.dumps(shuffled, sort_keys=True, separators=(",", ":"))
    assert recipe.key == hashlib.sha256(text.encode()).hexdigest()[:12]
    first, second = runs_of(catalog, "recovery", only="without", seeds=2)
    assert (first.seed, second.seed) == (1, 2)
    assert first.recipe.key == second.recipe.key == recipe.key


@pytest.mark.parametrize(
    "change",
    [
        {"egos_per_log": 3},
        {"evaluation": {"sensor": "camera"}},
        {"evaluation": {"scenes": 3}},
        {"training": {"optimizer": {"steps": 5}}},
        {"training": {"loss": {"alignment": {"spatial": 0.5}}}},
    ],
)
def test_any_other_setting_gives_another_key(folder, catalog, change):
    (folder / "others.yaml").write_text(yaml.safe_dump(OTHERS | change))
    changed = load_catalog(folder)
    assert changed["others"].recipe("usual").key != catalog["others"].recipe("usual").key


def test_arms_are_shared_between_experiments(catalog):
    shared = [run for run in runs_of(catalog, "recovery", 1) if len(run.arms) == 2]
    assert [run.arms for run in shared] == [("others/usual", "recovery/with")]
    assert shared[0].closed_loop  # Because the other experiment wants it.
    assert shared[0].recipe.key == runs_of(catalog, "others", 1, "usual")[0].recipe.key


def test_every_arm_gets_its_first_seed_before_any_gets_its_second(catalog):
    runs = runs_of(catalog, "recovery")
    assert [run.seed for run in runs] == [1, 1, 2, 2, 3, 3]
    assert [run.seed for run in runs_of(catalog, "recovery", only="with", only_seed=7)] == [7]


def test_arms_may_want_more_trainings_than_the_others(folder):
    more = RECOVERY | {"arms": {"without": {"training": NO_RECOVERY, "seeds": 5}, "with": {}}}
    (folder / "recovery.yaml").write_text(yaml.safe_dump(more, sort_keys=False))
    catalog = load_catalog(folder)
    runs = runs_of(catalog, "recovery")
    assert [run.seed for run in runs] == [1, 1, 2, 2, 3, 3, 4, 5]
    assert {run.recipe.key for run in runs[-2:]} == {catalog["recovery"].recipe("without").key}
    arms = arms_of(catalog["recovery"], [result_of(run, 0.5) for run in runs])
    assert {name: (arm.wanted, len(arm.results)) for name, arm in arms.items()} == {
        "without": (5, 5),
        "with": (3, 3),
    }
    assert len(runs_of(catalog, "recovery", seeds=2)) == 4
    four = [result_of(run, 0.5) for run in runs_of(catalog, "recovery", 4)]
    shared = arms_of(catalog["others"], four)["usual"]
    assert (shared.wanted, len(shared.results)) == (4, 4)


def test_the_experiments_that_come_with_the_package_share_what_they_can():
    catalog = load_catalog()
    assert list(catalog) == ["alignment", "cross-agent", "motion", "recovery"]
    shared = catalog["recovery"].recipe("on, with route").key
    assert shared == catalog["motion"].recipe("without").key
    others = [arm.training.data.sources.cross_agent for arm in catalog["cross-agent"].arms.values()]
    assert [source.weight for source in others] == pytest.approx([0.0, 0.1, 0.4, 1.6])
    # Weighted down, a large share of them would be a small step and no experiment.
    assert {source.loss_weight for source in others} == {1.0}
    alignment = [
        (
            arm.training.data.rasters,
            arm.training.data.cameras.share,
            arm.training.loss.alignment.spatial > 0,
            arm.training.loss.alignment.domain > 0,
        )
        for arm in catalog["alignment"].arms.values()
    ]
    assert alignment[-1][:2] == (False, 1.0)
    assert alignment[:-1] == [
        (True, share, *terms)
        for share in (0.2, 0.5)
        for terms in ((False, False), (True, False), (True, True))
    ]
    # Cells are what rasters know, for both kinds of image: alignment by another name.
    assert {arm.training.loss.cells for arm in catalog["alignment"].arms.values()} == {0.0}
    for experiment in catalog.values():
        assert experiment.seeds >= 3
        assert len({arm.training.optimizer.steps for arm in experiment.arms.values()}) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"arms": {"with": {"training": {"optimizer": {"stepz": 1}}}}}, "arms.with.*stepz"),
        ({"arms": {"with": 3}}, "arms.with"),
        ({"arms": {}}, "arms"),
        ({"claims": [{"better": "big", "than": "with", "by": ["epdms"]}]},
         "expected one of with, without, got 'big'"),
        ({"claims": [{"better": "with", "than": "without", "by": ["beauty"]}]}, "claims.0.by.0"),
        ({"training": 3}, "training"),
    ],
)  # fmt: skip
def test_files_that_are_no_experiment_are_refused_in_one_line(folder, change, reason):
    (folder / "recovery.yaml").write_text(yaml.safe_dump(RECOVERY | change))
    with pytest.raises(PlanError, match=reason) as caught:
        load_catalog(folder)
    assert "recovery.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def invoke(*arguments):
    app = typer.Typer()
    app.command()(experiment_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["beauty"],
            "experiment: expected one of alignment, cross-agent, motion, recovery, got 'beauty'",
        ),
        (["motion", "--only", "1x"], "motion: arm: expected one of without, with, got '1x'"),
    ],
)
def test_bad_names_are_told_in_one_line(arguments, said):
    """What is raised is what `rap-train` prints before it exits with 1."""
    error = invoke(*arguments).exception
    assert isinstance(error, PlanError)
    assert str(error) == said


def test_the_page_is_written_when_an_arm_fails(tmp_path, monkeypatch):
    def failing(*_):
        raise RunError("1 of 1 runs failed: loss is nan")

    monkeypatch.setattr(experiment_commands, "run_missing", failing)
    done = invoke("motion", "--results", tmp_path / "results")
    assert isinstance(done.exception, ValueError)  # Which `rap-train` prints in one line.
    assert (tmp_path / "results.md").exists()


def test_the_report_of_no_results_has_all_arms_and_nothing_invented(tmp_path):
    done = invoke("report", "--results", tmp_path / "results")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "results.md").read_text()
    for experiment in load_catalog().values():
        assert f"## {experiment.title}" in page
        for arm in experiment.arms:
            assert f"| {arm} | 0 of {experiment.seeds_of(arm)} | missing" in page
    assert "[" not in page.partition("## ")[2]  # No interval of anything.
    assert not (tmp_path / "images").exists()


def row_of(page: str, arm: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {arm} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_tables_hold_what_was_computed_by_hand(catalog, tmp_path):
    """0.50, 0.52, 0.57: mean 0.53, sample deviation sqrt(0.0013), so the error is 0.020817 and the
    half interval 2.919986 times that, 0.060785."""
    results = tmp_path / "results"
    for run, epdms in zip(
        runs_of(catalog, "recovery", only="with"), (0.5, 0.52, 0.57), strict=True
    ):
        write_result(results, result_of(run, epdms, closed_loop=driven(100.0 * epdms)))
    write_result(results, result_of(runs_of(catalog, "recovery", only="without")[0], 0.4))
    page = write_page(catalog, results).read_text()
    cells = row_of(page.partition("## Recovery")[2], "with")
    assert cells[:3] == ["with", "3 of 3", "0.530 [0.469, 0.591]"]
    assert cells[-3:] == ["6", "1.5", "0.0"]
    assert row_of(page.partition("## Recovery")[2], "without")[:3] == ["without", "1 of 3", "0.400"]
    others = page.partition("## Others")[2].partition("## Recovery")[0]
    assert row_of(others, "none")[:3] == ["none", "0 of 3", "missing"]
    closed = row_of(others.partition("Closed loop")[2], "usual")
    assert closed == [
        "usual", "3 of 3", "6", "53.0 [46.9, 59.1]", "0.50", "10.00",
    ]  # fmt: skip
    assert Verdict.TOO_FEW.value in page
    assert "There are 4." in page


def test_plots_show_every_training_where_it_belongs(catalog, tmp_path):
    results = tmp_path / "results"
    for run, epdms in zip(runs_of(catalog, "recovery", only="with"), (0.5, 0.52, 0.6), strict=True):
        write_result(results, result_of(run, epdms))
    write_result(results, result_of(runs_of(catalog, "recovery", only="without")[0], 0.55))
    write_page(catalog, results)
    picture = ElementTree.parse(tmp_path / "images" / "experiment_recovery.svg").getroot()
    dots = [
        (float(dot.get("cx")), float(dot.get("cy")))
        for dot in picture.iter("{http://www.w3.org/2000/svg}circle")
    ]
    (lone, height), *others = sorted(dots, key=lambda dot: dot[1])
    x = [dot[0] for dot in others]
    assert {dot[1] for dot in others} != {height}
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(0.2, abs=0.01)
    assert lone == pytest.approx(0.5 * (x[0] + x[2]), abs=0.1)
    assert 0.0 < min(x) < max(x) < float(picture.get("width"))


def test_results_of_former_configurations_are_counted_but_not_shown(folder, catalog, tmp_path):
    results = tmp_path / "results"
    for run in runs_of(catalog, "recovery", 1):
        write_result(results, result_of(run, 0.5))
    longer = RECOVERY | {"training": {"optimizer": {"steps": 9}}}
    (folder / "recovery.yaml").write_text(yaml.safe_dump(longer))
    page = write_page(load_catalog(folder), results).read_text()
    assert "There are 1. 1 of former configurations" in page  # The one that others still has.
    assert row_of(page.partition("## Recovery")[2], "with")[1] == "0 of 3"


def test_results_of_another_protocol_are_counted_but_not_read(catalog, tmp_path, monkeypatch):
    """Their fields may be others; their keys are, since the protocol decides figures."""
    results = tmp_path / "results"
    (run,) = runs_of(catalog, "recovery", 1, "with")
    path = write_result(results, result_of(run, 0.5))
    content = json.loads(path.read_text())
    for number, protocol in enumerate(({"protocol": PROTOCOL - 1}, {}), start=2):
        del content["protocol"], content["losses"]
        content |= {"key": "0123", "seed": number, "losses": []} | protocol
        result_path(results, "0123", number).write_text(json.dumps(content))
        content |= {"protocol": 0}
    page = write_page(catalog, results).read_text()
    assert "There are 1. 2 of other versions of the code are left out" in page
    assert row_of(page.partition("## Recovery")[2], "with")[1] == "1 of 3"
    key = run.recipe.key
    monkeypatch.setattr("rap_training.experiments.plan.PROTOCOL", PROTOCOL + 1)
    assert run.recipe.key != key


@pytest.mark.parametrize(
    ("better", "than", "lower", "verdict"),
    [
        (None, (0.1, 0.2), False, Verdict.MISSING),
        ((0.1, 0.2), None, False, Verdict.MISSING),
        ((0.3, 0.5), (0.1, 0.29), False, Verdict.APPEARED),
        ((0.3, 0.5), (0.1, 0.31), False, Verdict.OVERLAP),
        ((0.1, 0.31), (0.3, 0.5), False, Verdict.ABSENT),
        ((0.1, 0.29), (0.3, 0.5), False, Verdict.REVERSED),
        ((0.1, 0.29), (0.3, 0.5), True, Verdict.APPEARED),
        ((0.3, 0.5), (0.1, 0.31), True, Verdict.ABSENT),
        ((0.3, 0.5), (0.1, 0.29), True, Verdict.REVERSED),
        ((0.1, 0.3), (0.1, 0.3), False, Verdict.ABSENT),
    ],
)
def test_verdicts_follow_from_the_intervals(better, than, lower, verdict):
    def estimate(interval):
        return interval and Estimate((sum(interval) / 2,) * 3, interval)

    assert judge(estimate(better), estimate(than), lower_is_better=lower) is verdict


@pytest.mark.parametrize(
    ("completed", "said"), [((0, 0), "not judged"), ((2, 0), "not judged"), ((1, 1), "appeared")]
)
def test_arms_that_never_arrive_are_not_judged_by_how_they_drive(folder, completed, said):
    """All of the better arm's figures are better: who drives farther has fewer faults by the km."""
    claim = {"better": "with", "than": "without", "by": ["faults", "driving_score", "epdms"]}
    (folder / "recovery.yaml").write_text(yaml.safe_dump(RECOVERY | {"claims": [claim]}))
    catalog, results = load_catalog(folder), folder / "results"
    for arm, arrived, km in zip(("with", "without"), completed, (2.0, 1.0), strict=True):
        for run in runs_of(catalog, "recovery", only=arm):
            figure = km + 0.001 * run.seed
            closed_loop = driven(figure) | {"completed": arrived, "driven_km": figure}
            write_result(results, result_of(run, figure, closed_loop=closed_loop))
    page = write_page(catalog, results).read_text().partition("## Recovery")[2]
    verdicts = {"faults per km": said, "driving score": said, "EPDMS": "appeared"}
    for figure, verdict in verdicts.items():
        assert verdict in next(line for line in page.splitlines() if f"by {figure}:" in line)


def verdict_of(page: str, figure: str) -> str:
    recovery = page.partition("## Recovery")[2]
    return next(line for line in recovery.splitlines() if f"by {figure}:" in line)


def test_verdicts_of_unfinished_arms_say_so(catalog, tmp_path):
    runs = runs_of(catalog, "recovery")
    for run in runs[:-1]:
        better = "recovery/with" in run.arms
        write_result(tmp_path / "results", result_of(run, 0.5 + 0.2 * better + 0.001 * run.seed))
    assert ": so far, the effect appeared" in verdict_of(
        write_page(catalog, tmp_path / "results").read_text(), "EPDMS"
    )
    write_result(tmp_path / "results", result_of(runs[-1], 0.5))
    page = write_page(catalog, tmp_path / "results").read_text()
    assert "so far" not in verdict_of(page, "EPDMS")


def test_a_training_that_never_moved_is_not_left_out_of_the_faults_by_the_kilometre(folder):
    claim = {"better": "with", "than": "without", "by": ["faults"]}
    (folder / "recovery.yaml").write_text(yaml.safe_dump(RECOVERY | {"claims": [claim]}))
    catalog, results = load_catalog(folder), folder / "results"
    for run in runs_of(catalog, "recovery"):
        km = 0.0 if run.seed == 1 and "recovery/with" in run.arms else 1.0
        closed_loop = driven(50.0) | {"driven_km": km}
        write_result(results, result_of(run, 0.5, closed_loop=closed_loop))
    verdict = verdict_of(write_page(catalog, results).read_text(), "faults per km")
    assert "not in all trainings" in verdict


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0, 0.0]])
def test_a_single_training_has_no_interval_and_no_verdict(values):
    """Nor do three without a fault each: they do not say how many others would have."""
    alone = estimated(values)
    assert alone.interval is None
    assert judge(alone, estimated([0.1, 0.2]), lower_is_better=False) is Verdict.TOO_FEW


def test_the_t_interval_is_students():
    values = [0.50, 0.52, 0.57]
    half = T_95_2_DEGREES * np.sqrt(0.0013 / 3)
    assert estimated(values).interval == pytest.approx((0.53 - half, 0.53 + half), abs=1e-6)


def test_the_bootstrap_of_equal_trainings_is_that_of_their_scenes():
    """Many scenes: near to the normal interval, whose half width is 1.645 errors."""
    scenes = np.random.default_rng(1).normal(0.5, 0.2, size=400)
    low, high = bootstrapped(np.tile(scenes, (3, 1)))
    half = 1.645 * scenes.std() / 20.0
    assert (low, high) == pytest.approx((scenes.mean() - half, scenes.mean() + half), abs=0.002)


def test_the_bootstrap_draws_trainings_as_well():
    """Three trainings that differ by more than scenes do: the extremes are drawn in one of 27."""
    low, high = bootstrapped(np.repeat([[0.1], [0.2], [0.6]], 50, axis=1))
    assert 0.1 <= low < 0.15
    assert 0.45 < high <= 0.6
    assert 0.3 - low < 0.21


def test_a_lead_in_the_same_scenes_does_not_depend_on_how_hard_these_are():
    scenes = np.random.default_rng(2).uniform(size=60)
    first, second = np.tile(scenes + 0.05, (3, 1)), np.tile(scenes, (3, 1))
    assert bootstrapped_difference(first, second) == pytest.approx((0.05, 0.05))
    assert np.ptp(bootstrapped(first)) > 0.05


def test_damaged_and_misnamed_results_are_refused(catalog, tmp_path):
    run = runs_of(catalog, "recovery")[0]
    path = write_result(tmp_path, result_of(run, 0.5))
    assert read_result(path) == result_of(run, 0.5)
    other = result_path(tmp_path, run.recipe.key, 9)
    other.write_text(path.read_text())
    with pytest.raises(ResultError, match="belongs into"):
        read_result(other)
    other.write_text("{")
    with pytest.raises(ResultError, match="cannot be read"):
        read_result(other)


def test_results_of_different_logs_are_not_put_into_one_table(catalog, tmp_path):
    first, second = runs_of(catalog, "recovery", 1)
    write_result(tmp_path / "results", result_of(first, 0.5))
    for other in ({"Town05-seed9": "bbbb"}, {"Town02-seed1": "cccc"}):  # Recorded anew.
        elsewhere = result_of(second, 0.5).model_copy(update={"validation_logs": other})
        write_result(tmp_path / "results", elsewhere)
        with pytest.raises(ResultError, match="validation_logs: Town0"):
            write_page(catalog, tmp_path / "results")


def test_former_results_may_be_of_other_logs(folder, catalog, tmp_path):
    (first,) = runs_of(catalog, "recovery", 1, "without")
    former = result_of(first, 0.5).model_copy(update={"training_logs": {"Town01-seed1": "dddd"}})
    write_result(tmp_path / "results", former)
    longer = RECOVERY | {"training": {"optimizer": {"steps": 9}}}
    (folder / "recovery.yaml").write_text(yaml.safe_dump(longer))
    changed = load_catalog(folder)
    write_result(tmp_path / "results", result_of(runs_of(changed, "recovery", 1)[0], 0.5))
    page = write_page(changed, tmp_path / "results").read_text()
    assert "Trained on the logs Town01-seed1; measured on Town02-seed1; by revision" in page


def test_towns_share_one_closed_loop_result():
    way = {"mean_speed_mps": 4.0, "seconds": 100.0}
    rows = [
        {"route": 0, "driving_score": 30.0, "status": "Failed - simulation: TraCIException: x"},
        {"route": 1, "driving_score": 50.0, "status": "Perfect"},
    ]
    report = driven(40.0) | {"per_route": [row | way for row in rows]}
    found = closed_loop_result({"Town02": report, "Town05": report})
    assert (found.routes, found.completed, found.off_road) == (4, 2, 6)
    assert found.driving_score == 40.0
    assert found.driven_km == 1.6
    assert found.simulation_errors == 2
    assert sorted(found.per_route) == ["Town02/0", "Town02/1", "Town05/0", "Town05/1"]


def test_fewer_egos_leave_more_other_agents(town_log):
    assert len(town_log.egos) == 1
    fewer = with_egos(town_log, 0)
    assert fewer.egos == ()
    assert len(town_log.egos) == 1
    assert fewer.seats() == town_log.seats()


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    path = tmp_path_factory.mktemp("validation")
    options = RecordOptions(seconds=20.0, seed=5, vehicles=25, pedestrians=5, egos=20)
    write_log(path / "town", record(map_path("Town02"), options, default_cache()))
    return path


def weights_of(place, run) -> dict[str, torch.Tensor]:
    return load_model(place.out / run.name / "fit")[0].state_dict()


def test_a_killed_run_goes_on_and_a_finished_one_is_kept(
    catalog, town_logs, validation, tmp_path, monkeypatch
):
    runs = runs_of(catalog, "recovery", 1, "without")
    place = Workplace(town_logs, validation, tmp_path / "out", tmp_path / "results", workers=0)
    monkeypatch.setattr("rap_training.fit.CHECKPOINT_EVERY", 2)
    monkeypatch.setattr("rap_training.fit._log", _killed_at(4))
    with pytest.raises(KeyboardInterrupt):
        run_missing(runs, place)
    assert not list(place.results.glob("*"))
    monkeypatch.undo()
    (resumed,) = run_missing(runs, place)
    assert resumed.training_s is None  # Nobody knows what the killed process took.
    assert resumed.pseudo_sim.scenes == 2
    assert np.mean(resumed.pseudo_sim.per_scene["epdms"]) == pytest.approx(
        resumed.pseudo_sim.epdms, abs=1e-4
    )
    assert resumed.pseudo_sim.off_path["starts"] > 0
    assert resumed.open_loop.moments == 3
    assert resumed.closed_loop is None
    assert run_missing(runs, place) == []
    whole = Workplace(town_logs, validation, tmp_path / "whole", tmp_path / "again", workers=0)
    monkeypatch.setattr(run_module, "evaluate_pseudo_sim", lambda *_: PSEUDO_SIM_REPORT)
    (uninterrupted,) = run_missing(runs, whole)
    assert uninterrupted.training_s > 0.0
    assert uninterrupted.open_loop == resumed.open_loop
    resumed_weights = weights_of(place, runs[0])
    for name, value in weights_of(whole, runs[0]).items():
        assert torch.equal(value, resumed_weights[name])


def _exported_after_a_change(model, *arguments, **settings):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(0.1)
    return export_bundle(changed, *arguments, **settings)


PSEUDO_SIM_REPORT = {
    "epdms": 0.25, "stage_one": {"score": 0.5}, "stage_two": {"score": 0.5}, "scenes": 1,
    "off_path": {},
    "failed": {}, "effective_samples": 1.0, "uniform_groups": 0, "groups": 2,
    "per_scene": [{"name": "a", "epdms": 0.25}],
}  # fmt: skip


def _killed_at(fatal_step: int):
    def log(_path, step, *_):
        if step == fatal_step:
            raise KeyboardInterrupt

    return log


def test_a_run_that_fails_or_is_taken_keeps_no_other_waiting(
    catalog, town_logs, validation, tmp_path, monkeypatch
):
    runs = runs_of(catalog, "recovery", 2)
    place = Workplace(town_logs, validation, tmp_path / "out", tmp_path / "results", workers=0)

    def done(_, run, *__):
        return result_of(run, 0.5, closed_loop=driven(50.0) if run.closed_loop else None)

    def fails(self, run, *_):
        if run.seed == 2 and "recovery/with" in run.arms:
            raise FloatingPointError("loss is nan")
        return done(self, run)

    monkeypatch.setattr(run_module._Laboratory, "result", fails)
    with run_module._claimed(place.out / runs[0].name) as ours:
        assert ours
        with pytest.raises(RunError, match=r"1 of 4 runs failed: .* seed 2: Floating.*nan"):
            run_missing(runs, place)
    assert len(list(place.results.glob("*.json"))) == 2
    monkeypatch.setattr(run_module._Laboratory, "result", done)
    assert len(run_missing(runs, place)) == 2


def test_only_towns_that_are_for_it_train_and_validate(catalog, town_logs, validation, tmp_path):
    runs = runs_of(catalog, "recovery", 1)
    for logs, measured in ((validation, validation), (town_logs, town_logs)):
        place = Workplace(logs, measured, tmp_path / "out", tmp_path / "results")
        with pytest.raises(LogError, match="Town0"):
            run_missing(runs, place)
    assert not (tmp_path / "out").exists()


def test_nothing_is_trained_that_would_not_compare(catalog, town_logs, validation, tmp_path):
    place = Workplace(town_logs, validation, tmp_path / "out", tmp_path / "results")
    runs = runs_of(catalog, "recovery", 1)
    here = result_of(runs[0], 0.5, revision=code_revision())
    with pytest.raises(LogError, match=r"not the logs of .*seed1.json \(training_logs\)"):
        run_missing(runs, place, beside=[here])
    with pytest.raises(ResultError, match="has results of revision 0123abc, this is"):
        run_missing(runs, place, beside=[result_of(runs[0], 0.5)])
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_revision_is_of_the_code_alone(tmp_path, monkeypatch):
    """Every experiment writes documents beside it, which are committed with its results."""
    packages = tmp_path / "src"
    packages.mkdir()
    monkeypatch.setattr(revision, "_PACKAGES", packages)
    assert code_revision() == "unknown"

    def git(*arguments):
        settings = ("user.name=somebody", "user.email=somebody@example.org", "commit.gpgsign=false")
        given = [word for setting in settings for word in ("-c", setting)]
        subprocess.run(["git", *given, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def commit(path, text):
        path.write_text(text)
        git("add", "--all")
        git("commit", "--message", text)

    git("init")
    commit(packages / "code.py", "first")
    commit(tmp_path / "results.md", "measured")
    first = code_revision()
    (tmp_path / "results.md").write_text("measured again")
    assert code_revision() == first
    (packages / "code.py").write_text("changed")
    assert code_revision() == f"{first}-dirty"
    commit(packages / "code.py", "second")
    assert code_revision() not in {first, f"{first}-dirty"}


def test_a_run_without_the_closed_loop_it_lacks_is_not_finished(catalog, tmp_path, monkeypatch):
    """The other experiment wants more of the arm that both share."""
    (run,) = runs_of(catalog, "others", 1, "usual")
    write_result(tmp_path, result_of(run, 0.5))
    assert not run_module.is_finished(run, tmp_path)
    write_result(tmp_path, result_of(run, 0.5, closed_loop=driven(50.0)))
    assert run_module.is_finished(run, tmp_path)


def test_the_closed_loop_is_added_to_what_was_measured_before(
    catalog, town_logs, validation, tmp_path, monkeypatch
):
    (run,) = runs_of(catalog, "others", 1, "usual")
    place = Workplace(town_logs, validation, tmp_path / "out", tmp_path / "results", workers=0)
    write_result(place.results, result_of(run, 0.5))
    with pytest.raises(RunError, match="trained anew, its losses are others"):
        run_missing([run], place)
    losses = run_module.last_losses(place.out / run.name / "fit" / "log.csv")
    before = result_of(run, 0.5, losses=losses)
    write_result(place.results, before)
    monkeypatch.setattr(run_module, "export_bundle", _exported_after_a_change)
    with pytest.raises(RunError, match="BundleError"):  # What is measured is what was trained.
        run_missing([run], place)
    monkeypatch.undo()
    measured = ClosedLoopResult.model_validate(driven(50.0))
    monkeypatch.setattr(run_module, "_closed_loop", lambda *_: measured)
    (found,) = run_missing([run], place)
    assert found.closed_loop == measured
    assert found.evaluation_s >= before.evaluation_s
    assert found == before.model_copy(
        update={"closed_loop": measured, "evaluation_s": found.evaluation_s}
    )
    assert run_missing([run], place) == []
