"""The page of results: tables, plots and verdicts, made of the result files that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rap_evaluation.pseudo_sim.protocol import OFF_PATH_LEFT_M, OFF_PATH_YAW_RAD
from rap_training.experiments.comparison import ArmResults, arms_of
from rap_training.experiments.figures import FIGURES, FigureName
from rap_training.experiments.plan import Catalog, Claim, Experiment
from rap_training.experiments.plots import plot
from rap_training.experiments.result import RunResult, check_same_logs, read_results
from rap_training.experiments.verdict import Verdict, judge
from rap_training.whole_file import whole_file

IMAGES_NAME = "images"

MISSING = "missing"

_PSEUDO_SIM: tuple[FigureName, ...] = (
    "epdms", "stage_one", "stage_two", "on_road", "no_collision", "off_path", "off_path_on_road",
    "min_ade",
)  # fmt: skip
_CLOSED_LOOP: tuple[FigureName, ...] = ("driving_score", "completed", "faults")

_HEAD = """# Experiments

This page is written by `rap-train experiment` from the files in `{folder}/`, one for each finished
training. {count}

An arm is trained several times with different seeds, and measured on towns that nothing was
trained on. `n` is how many of its trainings are finished. Configurations are in
`rap_training/presets/experiments/`.{logs}

Clearance of the guard and patience of the planner were partly chosen while watching drives in these
towns. Neither has a part in pseudo-simulation and open loop; patience has in the closed loop.

Pseudo-simulation is of {scenes} scenes, and its second stage starts from near the first plan alone:
EPDMS does not compare with that of [evaluation.md](evaluation.md).

- **Mean [low, high]** is the mean over the trainings with Student's 90 % t-interval. Verdicts go by
  it: all arms meet the same scenes and routes, so what is in doubt is how the next training would
  turn out, and so few are not enough to draw from again. That intervals do not overlap is more
  than that their difference is not zero; that they do says little with three trainings. Among the
  {verdicts} verdicts of this page, some may come out by chance.
- **Bootstrap** is the 90 % interval when trainings *and scenes* are drawn again. With few trainings
  it is too narrow for what they vary, but it says how much hangs on the choice of scenes.
- **Lead** is the same for the difference of two arms in the same scenes.
- **Off the path** is the mean score of plans that start {left} m beside the path and turned by
  {yaw} rad, wherever that is still on the road: who is there has to find back.
- **Equal weights**: in so many of the groups of stage two, no start lies near where the first plan
  ended, and all starts count alike. Between arms that differ in it, stage two differs in what it
  measures as well.
- **Not scored** are scenes in which a plan could not be used, all trainings together.
- **{missing}** CPU minutes are those of trainings that were stopped and resumed.
- **Faults** are runs off the road and at-fault collisions. By the route, who comes to stand early
  would do best, so they are counted by the kilometre. Where an arm completes less than a fifth of
  the routes, claims by the closed loop are not judged. Ten routes by training tell great
  differences alone: of two arms with 12 and 6 faults in each of five trainings, the intervals come
  apart in about three of five cases.
- **Whose drives**: pseudo-simulation and errors are of recording vehicles alone, not of trucks and
  others that arms with cross-agent samples have seen and others have not. In plans from off the
  path, the past is that of the drive, moved aside; in recovery samples it leads there.
"""


def write_page(catalog: Catalog, results: Path) -> Path:
    """Writes the page, and a plot for each experiment that has results.

    Args:
        catalog: All experiments.
        results: Folder of results; the page is beside it, under its name.

    Returns:
        Path of the page.

    Raises:
        ResultError: If a result cannot be used.
    """
    found, others = read_results(results)
    used = of_catalog(catalog, found)
    check_same_logs(used)
    path = results.with_suffix(".md")
    parts = [
        _HEAD.format(
            folder=results.name,
            count=_counted(len(used), len(found) - len(used), others),
            logs=_logs(used),
            scenes=_scenes(catalog),
            verdicts=sum(len(c.by) for e in catalog.values() for c in e.claims),
            missing=MISSING,
            left=_sizes(OFF_PATH_LEFT_M),
            yaw=_sizes(OFF_PATH_YAW_RAD),
        )
    ]
    for name, experiment in catalog.items():
        arms = arms_of(experiment, used)
        parts.append(_section(experiment, arms))
        if any(arm.results for arm in arms.values()):
            image = Path(IMAGES_NAME) / f"experiment_{name}.svg"
            _write(path.parent / image, plot(arms.values(), _claimed(experiment)))
            parts.append(f"![{experiment.title}: every training and the intervals]({image})\n")
        parts.append(_verdicts(experiment, arms))
        if experiment.remarks:
            parts.append(f"{experiment.remarks}\n")
    _write(path, "\n".join(parts))
    return path


def of_catalog(catalog: Catalog, found: Sequence[RunResult]) -> list[RunResult]:
    """Returns the results of the arms that there are: those which a page compares."""
    keys = {
        experiment.recipe(arm).key for experiment in catalog.values() for arm in experiment.arms
    }
    return [result for result in found if result.key in keys]


def _counted(used: int, former: int, others: int) -> str:
    text = f"There are {used or 'none'}."
    if former:
        text += f" {former} of former configurations are left out."
    if others:
        text += (
            f" {others} of other versions of the code are left out: their figures do not compare."
        )
    return text


def _sizes(offsets: Sequence[float]) -> str:
    return " or ".join(f"{offset:g}" for offset in sorted({abs(offset) for offset in offsets}))


def _scenes(catalog: Catalog) -> str:
    counts = {experiment.evaluation.scenes for experiment in catalog.values()}
    return " or ".join(map(str, sorted(counts)))


def _logs(used: Sequence[RunResult]) -> str:
    if not used:
        return ""
    training, validation = used[0].training_logs, used[0].validation_logs
    revisions = sorted({result.revision for result in used})
    return (
        f"\n\nTrained on the logs {', '.join(training)}; measured on {', '.join(validation)}; "
        f"by revision {', '.join(revisions)} of the code."
    )


def _section(experiment: Experiment, arms: dict[str, ArmResults]) -> str:
    parts = [f"## {experiment.title}\n", f"{experiment.question}\n", _pseudo_sim(arms.values())]
    driven = [arm for arm in arms.values() if arm.driven or arm.estimate("driving_score")]
    if driven:
        parts += ["Closed loop, end points only:\n", _closed_loop(driven)]
    return "\n".join(parts)


def _pseudo_sim(arms: Iterable[ArmResults]) -> str:
    shown = [name for name in _PSEUDO_SIM if any(arm.estimate(name) for arm in arms)]
    head = [
        "arm",
        "n",
        *(FIGURES[name].label for name in shown),
        "EPDMS, bootstrap",
        "equal weights",
        "not scored",
        "CPU minutes of training",
        "of evaluation",
    ]
    rows = [
        [
            arm.name,
            _n(arm),
            *(_estimate(arm, name) for name in shown),
            _interval(arm.spread("epdms"), "epdms"),
            _equal_weights(arm.results),
            str(sum(result.pseudo_sim.failed for result in arm.results))
            if arm.results
            else MISSING,
            _minutes([result.training_s for result in arm.results]),
            _minutes([result.evaluation_s for result in arm.results]),
        ]
        for arm in arms
    ]
    return _table(head, rows)


def _closed_loop(arms: Sequence[ArmResults]) -> str:
    head = ["arm", "n", "routes", *(FIGURES[name].label for name in _CLOSED_LOOP)]
    rows = []
    for arm in arms:
        driven = [result.closed_loop for result in arm.results if result.closed_loop]
        count = f"{len(driven)} of {arm.wanted}"
        routes = str(sum(result.routes for result in driven)) if driven else MISSING
        errors = sum(result.simulation_errors for result in driven)
        routes += f", {errors} ended by errors of the simulation" if errors else ""
        rows.append([arm.name, count, routes, *(_estimate(arm, name) for name in _CLOSED_LOOP)])
    return _table(head, rows)


def _verdicts(experiment: Experiment, arms: dict[str, ArmResults]) -> str:
    lines = [
        f"- {_verdict(claim, arms[claim.better], arms[claim.than], name)}"
        for claim in experiment.claims
        for name in claim.by
    ]
    return "\n".join(["Expected, and what came of it:\n", *lines, ""])


def _verdict(claim: Claim, better: ArmResults, than: ArmResults, name: FigureName) -> str:
    figure = FIGURES[name]
    found = judge(
        better.estimate(name), than.estimate(name), lower_is_better=figure.lower_is_better
    )
    arrive = better.completes_routes and than.completes_routes
    if figure.closed_loop and found is not Verdict.MISSING and not arrive:
        found = Verdict.NO_ROUTE
    so_far = "" if better.finished and than.finished else "so far, "
    text = (
        f"**{claim.better}** better than **{claim.than}** by {figure.label}: {so_far}{found.value}"
    )
    if found is Verdict.MISSING:
        return f"{text}."
    text += f" ({_estimate(better, name)} against {_estimate(than, name)}"
    lead = better.lead(than, name)
    return f"{text}; lead {_interval(lead, name)})." if lead else f"{text})."


def _claimed(experiment: Experiment) -> list[FigureName]:
    """Returns the figures that claims are about, each once."""
    return list(dict.fromkeys(name for claim in experiment.claims for name in claim.by))


def _n(arm: ArmResults) -> str:
    return f"{len(arm.results)} of {arm.wanted}"


def _equal_weights(results: Sequence[RunResult]) -> str:
    groups = sum(result.pseudo_sim.groups for result in results)
    uniform = sum(result.pseudo_sim.uniform_groups for result in results)
    return f"{uniform / groups:.0%}" if groups else MISSING


def _minutes(measured_s: Sequence[float | None]) -> str:
    """Returns the mean of times, without those of trainings that were stopped in between."""
    times_s = [time_s for time_s in measured_s if time_s is not None]
    return f"{sum(times_s) / len(times_s) / 60.0:.1f}" if times_s else MISSING


def _estimate(arm: ArmResults, name: FigureName) -> str:
    found, decimals = arm.estimate(name), FIGURES[name].decimals
    if found is None:
        return MISSING
    mean = f"{found.mean:.{decimals}f}"
    return f"{mean} {_interval(found.interval, name)}" if found.interval else mean


def _interval(interval: tuple[float, float] | None, name: FigureName) -> str:
    decimals = FIGURES[name].decimals
    if interval is None:
        return MISSING
    return f"[{interval[0]:.{decimals}f}, {interval[1]:.{decimals}f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(text.encode())
