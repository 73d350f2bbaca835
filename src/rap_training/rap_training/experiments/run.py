"""Trains and evaluates what is not finished yet; a stopped run goes on at its last checkpoint."""

from __future__ import annotations

import copy
import csv
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rap_bringup.console import Report, silent
from rap_evaluation.closed_loop.drive import SIMULATION_ERROR
from rap_evaluation.closed_loop.evaluation import ClosedLoopOptions, evaluate_closed_loop
from rap_evaluation.kept_arrays import KeptArrays
from rap_evaluation.logs.drive_log import DriveLog, LogError, open_logs
from rap_evaluation.map_split import TRAIN_MAPS, VALIDATION_MAPS
from rap_evaluation.open_loop import LogDriver, Seats, open_loop_report
from rap_evaluation.pseudo_sim.evaluation import PseudoSimOptions, evaluate_pseudo_sim
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.towns import map_path
from rap_inference.bundle import Bundle
from rap_training.augmentation.mixture import Mixture, mixture_of
from rap_training.calibration import Calibration
from rap_training.experiments.plan import Evaluation, Run
from rap_training.experiments.result import (
    PROTOCOL,
    ClosedLoopResult,
    OpenLoopResult,
    PseudoSimResult,
    ResultError,
    RunResult,
    read_result,
    result_path,
    write_result,
)
from rap_training.export import export_bundle, licenses_of
from rap_training.fit import LOG_NAME, STATE_NAME, Machine, fit, load_model
from rap_training.objective import Losses
from rap_training.origin import origin_of
from rap_training.parity import check_parity
from rap_training.revision import code_revision
from rap_training.training_logs import open_training_logs

_LAST_STEPS = 50  # Of the losses in a result: one batch alone says little.
_DECIMALS = 5
_DIGEST_DIGITS = 12


class RunError(ValueError):
    """Runs that failed; the text says which and why, in one line."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where runs find and leave things.

    Attributes:
        logs: Folder of training logs.
        validation: Folder of the logs that everything is measured on.
        out: Folder of checkpoints, bundles, reports and camera images; all can be made again.
        results: Folder of results.
        workers: Loader processes.
    """

    logs: Path
    validation: Path
    out: Path
    results: Path
    workers: int = 1

    @property
    def kept(self) -> Path:
        """Folder of what is the same in all evaluations by the code of this protocol."""
        return self.out / f"kept-protocol{PROTOCOL}"


def is_finished(run: Run, results: Path) -> bool:
    """True if there is a result of a run with all that is wanted of it.

    Raises:
        ResultError: If its file is damaged.
    """
    path = result_path(results, run.recipe.key, run.seed)
    if not path.exists():
        return False
    return not run.closed_loop or read_result(path).closed_loop is not None


def run_missing(
    runs: Sequence[Run],
    workplace: Workplace,
    report: Report = silent,
    beside: Iterable[RunResult] = (),
) -> list[RunResult]:
    """Carries out the runs that are not finished, and writes the result of each.

    Args:
        runs: What is wanted.
        workplace: Where.
        report: Called with the share that is done of what was missing.
        beside: Finished runs that the new ones are to be compared with.

    Returns:
        The new results.

    Raises:
        LogError: If there are no logs, some of towns that are not for this, or others than those
            of the finished runs.
        ResultError: If finished runs were made by another revision of the code.
        RunError: If runs failed; all others are done then.
    """
    missing = [run for run in runs if not is_finished(run, workplace.results)]
    if not missing:
        return []
    laboratory = _Laboratory(workplace)
    laboratory.check_comparable(beside)
    results, failures = [], []
    for number, run in enumerate(missing):
        begin, end = number / len(missing), (number + 1) / len(missing)
        name = f"{run.arms[0]} seed {run.seed}"
        with _claimed(workplace.out / run.name) as ours:
            if not ours or is_finished(run, workplace.results):
                continue  # Another process is at it, or was.
            try:
                result = laboratory.result(run, _part(report, begin, end, f" {name}"))
            except Exception as error:  # The others do not depend on it.
                failures.append(f"{name}: {type(error).__name__}: {error}")
                continue
            write_result(workplace.results, result)
            results.append(result)
    if failures:
        raise RunError(f"{len(failures)} of {len(missing)} runs failed: {'; '.join(failures)}")
    return results


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Holds the folder of a run; false if another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class _Laboratory:
    """The opened logs, and what is done with them."""

    def __init__(self, workplace: Workplace) -> None:
        """Opens the logs."""
        self._place, self._revision = workplace, code_revision()
        self._training = open_training_logs(workplace.logs)
        self._validation = _validation_logs(workplace.validation)
        for log in self._training:
            if log.map.name not in TRAIN_MAPS:
                raise LogError(
                    f"{workplace.logs}: {log.name} is of {log.map.name}; experiments are trained "
                    f"on {', '.join(TRAIN_MAPS)}"
                )

    def check_comparable(self, finished: Iterable[RunResult]) -> None:
        """Refuses to add to results of other logs or other code, before hours go into it.

        Raises:
            LogError: If a finished run had other logs than these.
            ResultError: If it was made by another revision.
        """
        ours = {
            "training_logs": (self._place.logs, _digests(self._training)),
            "validation_logs": (self._place.validation, _digests(self._validation)),
        }
        for result in finished:
            if result.revision != self._revision:
                raise ResultError(
                    f"{self._place.results}: has results of revision {result.revision}, this is "
                    f"{self._revision}: check that one out to add to them, or name other --results"
                )
            for field, (folder, logs) in ours.items():
                if getattr(result, field) != logs:
                    path = result_path(self._place.results, result.key, result.seed)
                    raise LogError(
                        f"{folder}: not the logs of {path} ({field}); its figures would not compare"
                    )

    def result(self, run: Run, report: Report) -> RunResult:
        """Trains and evaluates."""
        folder, config = self._place.out / run.name, run.recipe.training
        path = result_path(self._place.results, run.recipe.key, run.seed)
        if path.exists():
            return self._with_closed_loop(read_result(path), run, folder, report)
        training_s = self._train(run, folder / "fit", _part(report, 0.0, 0.7, ": training"))
        begin_s = _cpu_s()
        bundle = self._exported(run, folder)
        options = run.recipe.evaluation
        open_loop = self._open_loop(bundle, options)
        pseudo_sim = self._pseudo_sim(
            bundle, options, folder, _part(report, 0.7, 0.9, ": pseudo-simulation")
        )
        closed_loop = (
            _closed_loop(bundle, options, folder, _part(report, 0.9, 1.0, ": closed loop"))
            if run.closed_loop
            else None
        )
        return RunResult(
            revision=self._revision,
            key=run.recipe.key,
            seed=run.seed,
            arms=run.arms,
            recipe=run.recipe.model_dump(mode="json"),
            training_logs=_digests(self._training),
            validation_logs=_digests(self._validation),
            steps=config.optimizer.steps,
            samples=config.optimizer.steps * config.optimizer.batch_size,
            training_s=training_s,
            evaluation_s=round(_cpu_s() - begin_s, 1),
            losses=last_losses(folder / "fit" / LOG_NAME),
            pseudo_sim=pseudo_sim,
            open_loop=open_loop,
            closed_loop=closed_loop,
        )

    def _with_closed_loop(
        self, found: RunResult, run: Run, folder: Path, report: Report
    ) -> RunResult:
        """Adds the closed loop to a result that was made before an arm wanted it.

        Raises:
            RunError: If the training is not there any more, and comes out differently now.
        """
        self._train(run, folder / "fit", _part(report, 0.0, 0.7, ": training"))
        if (losses := last_losses(folder / "fit" / LOG_NAME)) != found.losses:
            raise RunError(f"trained anew, its losses are others: {losses}, not {found.losses}")
        begin_s = _cpu_s()
        driven = _closed_loop(
            self._exported(run, folder),
            run.recipe.evaluation,
            folder,
            _part(report, 0.7, 1.0, ": closed loop"),
        )
        took_s = found.evaluation_s + _cpu_s() - begin_s
        return found.model_copy(
            update={"arms": run.arms, "evaluation_s": round(took_s, 1), "closed_loop": driven}
        )

    def _train(self, run: Run, checkpoint: Path, report: Report) -> float | None:
        """Trains; returns the CPU time, or None if an earlier process did a part of it."""
        resumed = (checkpoint / STATE_NAME).exists()
        config = run.recipe.training
        machine = Machine(workers=self._place.workers, images=self._place.out / "images")
        begin_s = _cpu_s()
        origin = origin_of(self._training, config)
        fit(self._mixture(run), config, checkpoint, origin, machine=machine, report=report)
        return None if resumed else round(_cpu_s() - begin_s, 1)

    def _mixture(self, run: Run) -> Mixture:
        logs = [with_egos(log, run.recipe.egos_per_log) for log in self._training]
        config = run.recipe.training
        return mixture_of(logs, config.data.sources, config.model)

    def _exported(self, run: Run, folder: Path) -> Bundle:
        """Exports without calibration, which is of rasters: arms without any would lose by it.

        Raises:
            BundleError: If the bundle does not say what the model says.
        """
        model, config = load_model(folder / "fit")
        maps = tuple(sorted({log.map.name for log in self._training}))
        command = f"rap-train experiment {run.arms[0].partition('/')[0]}"
        bundle = export_bundle(
            model,
            config,
            folder / "bundle",
            maps=maps,
            data_license=licenses_of(self._training),
            command=command,
            metrics={},
        )
        check_parity(bundle, model, Calibration(), self._mixture(run), config)
        return bundle

    def _pseudo_sim(
        self, bundle: Bundle, options: Evaluation, folder: Path, report: Report
    ) -> PseudoSimResult:
        content = evaluate_pseudo_sim(
            PseudoSimOptions(
                planner=str(bundle.path),
                sensor=options.sensor,
                logs=self._place.validation,
                out=folder / "pseudo_sim",
                scenes=options.scenes,
                seed=options.seed,
                starts=options.starts,
                off_path_every=options.off_path_every,
                kept=self._place.kept,
                egos_only=True,
            ),
            report,
        )
        return pseudo_sim_result(content)

    def _open_loop(self, bundle: Bundle, options: Evaluation) -> OpenLoopResult:
        driver = LogDriver(bundle, options.sensor, KeptArrays(self._place.kept))
        found = open_loop_report(
            driver,
            self._validation,
            Seats(egos_only=True),
            count=options.moments,
            seed=options.seed,
        )
        return OpenLoopResult(
            moments=found.moments,
            ade_3s_m=round(found.ade_3s_m, _DECIMALS),
            min_ade_3s_m=round(found.min_ade_3s_m, _DECIMALS),
        )


def _cpu_s() -> float:
    """Returns the CPU time of this process and of its ended loaders: others may work beside."""
    return sum(os.times()[:4])


def _digests(logs: Sequence[DriveLog]) -> dict[str, str]:
    return {log.name: log.traffic_digest[:_DIGEST_DIGITS] for log in logs}


def with_egos(log: DriveLog, count: int) -> DriveLog:
    """Returns a log with only its first recording vehicles; the others are other agents."""
    fewer = copy.copy(log)
    fewer.egos = log.egos[:count]
    return fewer


def pseudo_sim_result(content: dict[str, Any]) -> PseudoSimResult:
    """Takes what is kept from the report of a pseudo-simulation."""
    scenes = content["per_scene"]
    columns = [name for name in scenes[0] if name != "name"]
    return PseudoSimResult(
        epdms=round(content["epdms"], _DECIMALS),
        stage_one=_rounded(content["stage_one"]),
        stage_two=_rounded(content["stage_two"]),
        off_path=_rounded(content["off_path"]),
        scenes=content["scenes"],
        failed=len(content["failed"]),
        effective_samples=round(content["effective_samples"], _DECIMALS),
        uniform_groups=content["uniform_groups"],
        groups=content["groups"],
        scene_names=tuple(scene["name"] for scene in scenes),
        per_scene={
            name: tuple(round(scene[name], _DECIMALS) for scene in scenes) for name in columns
        },
    )


def closed_loop_result(reports: dict[str, dict[str, Any]]) -> ClosedLoopResult:
    """Puts the reports of some towns together."""
    counts = {
        name: sum(report[name] for report in reports.values())
        for name in (
            "routes", "completed", "clean_routes", "off_road", "collisions_at_fault", "red_lights",
        )
    }  # fmt: skip
    per_route = {
        f"{town}/{row['route']}": float(row["driving_score"])
        for town, report in reports.items()
        for row in report["per_route"]
    }
    driven_m = sum(
        row["mean_speed_mps"] * row["seconds"]
        for report in reports.values()
        for row in report["per_route"]
    )
    statuses = [row["status"] for report in reports.values() for row in report["per_route"]]
    return ClosedLoopResult(
        **counts,
        simulation_errors=sum(SIMULATION_ERROR in status for status in statuses),
        driving_score=round(float(np.mean(list(per_route.values()))), _DECIMALS),
        driven_km=round(driven_m / 1000.0, _DECIMALS),
        per_route=per_route,
    )


def last_losses(log: Path) -> dict[str, float]:
    """Returns the means of the losses over the last steps of a training's log."""
    with log.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[-_LAST_STEPS:]
    return {
        name: round(float(np.mean([float(row[name]) for row in rows])), _DECIMALS)
        for name in ("total", *Losses._fields)
    }


def _closed_loop(
    bundle: Bundle, options: Evaluation, folder: Path, report: Report
) -> ClosedLoopResult:
    reports = {}
    for number, town in enumerate(VALIDATION_MAPS):
        share = 1.0 / len(VALIDATION_MAPS)
        reports[town] = evaluate_closed_loop(
            ClosedLoopOptions(
                planner=str(bundle.path),
                sensor=options.sensor,
                map_path=map_path(town),
                cache=default_cache(),
                out=folder / "closed_loop" / town,
                routes=options.routes,
                seed=options.seed,
                replan_hz=options.replan_hz,
            ),
            _part(report, number * share, (number + 1) * share, ""),
        )
    return closed_loop_result(reports)


def _validation_logs(folder: Path) -> list[DriveLog]:
    """Opens the logs that figures come from.

    Raises:
        LogError: If there is none, or one is of another town than those for validation.
    """
    logs = open_logs(folder)
    for log in logs:
        if log.map.name not in VALIDATION_MAPS:
            raise LogError(
                f"{folder}: {log.name} is of {log.map.name}; experiments are measured on "
                f"{', '.join(VALIDATION_MAPS)}"
            )
    return logs


def _part(report: Report, begin: float, end: float, what: str) -> Report:
    """Returns what reports a part of the work."""

    def part(share: float, note: str = "") -> None:
        report(begin + share * (end - begin), f"{what}{note}")

    return part


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, _DECIMALS) for name, value in values.items()}
