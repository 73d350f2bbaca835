"""The closed-loop evaluation: many routes, one after the other, and their report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rap_bringup.console import Report, silent
from rap_evaluation.closed_loop.drive import drive
from rap_evaluation.closed_loop.place import Place, open_place
from rap_evaluation.closed_loop.report import RouteReport, route_report, summary, write_report
from rap_evaluation.closed_loop.routes import Route, draw_routes
from rap_evaluation.closed_loop.video import write_video
from rap_evaluation.planners.bundle_planner import BundlePlanner
from rap_evaluation.planners.choice import CONSTANT_VELOCITY, PDM_CLOSED, planner_maker
from rap_evaluation.planners.guarded_planner import GuardedPlanner
from rap_evaluation.planners.observation import Planner
from rap_evaluation.sharding import process
from rap_inference.bundle import MANIFEST_NAME, file_sha256

_logger = logging.getLogger(__name__)

STEPS_PER_SECOND = 10
"""Of the simulation."""


class ClosedLoopError(ValueError):
    """An evaluation cannot be run as asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class ClosedLoopOptions:
    """What to evaluate.

    Attributes:
        planner: See `planners.choice.planner_maker`.
        sensor: What a bundle sees with.
        map_path: OpenDRIVE file.
        cache: Folder for SUMO networks.
        out: Folder of the report; made if missing.
        routes: How many.
        seed: Of routes and traffic.
        replan_hz: Plans a second.
        guarded: Plans of a bundle pass through the vehicle's guard; those of a graph always do.
        ray_address: See `sharding.process`.
    """

    planner: str
    sensor: str
    map_path: Path
    cache: Path
    out: Path
    routes: int
    seed: int
    replan_hz: int
    guarded: bool = False
    ray_address: str | None = None


def evaluate_closed_loop(options: ClosedLoopOptions, report: Report = silent) -> dict[str, Any]:
    """Drives all routes and writes a video of every failed one.

    The report is written after every route: what is driven is not lost when the rest is stopped.

    Args:
        options: What to evaluate.
        report: Called with the share that is done.

    Returns:
        What `report.json` holds.

    Raises:
        ClosedLoopError: If an option is wrong.
        PlannerChoiceError: If there is no such planner or sensor.
        BundleError: If the bundle cannot be used.
        TrafficError: If the map has no routes, or SUMO is missing.
        MapError: If the map cannot be read.
    """
    planner_maker(options.planner, options.sensor)  # Wrong names should fail before the work.
    check_options(options)
    written = _GrowingReport(options)
    process(
        draw_routes(written.place, options.routes, options.seed),
        partial(_named_driver, options),
        ray_address=options.ray_address,
        report=report,
        keep=written.add,
    )
    return written.content


def evaluate_in_turn(
    options: ClosedLoopOptions,
    planner: Planner,
    after_route: Callable[[RouteReport], None],
    more: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """As `evaluate_closed_loop`, for a planner that exists already and is asked at every step.

    Args:
        options: What to evaluate; `replan_hz` is for the report.
        planner: Who drives.
        after_route: Called after every route.
        more: What else `report.json` is to hold.
    """
    written = _GrowingReport(options, more)
    driver = _Driver(written.place, planner, options.out, STEPS_PER_SECOND)
    for route in draw_routes(written.place, options.routes, options.seed):
        driven = driver(route)
        written.add(driven)
        after_route(driven)
    return written.content


def _named_driver(options: ClosedLoopOptions) -> _Driver:
    place = open_place(options.map_path, options.cache)
    planner = planner_maker(options.planner, options.sensor)(place.map)
    if not isinstance(planner, BundlePlanner) or not options.guarded:
        return _Driver(place, planner, options.out, options.replan_hz)
    guarded = GuardedPlanner(planner, place.map, replan_hz=options.replan_hz)
    return _Driver(place, guarded, options.out, STEPS_PER_SECOND)


class _Driver:
    """Drives routes of one map, one after the other."""

    def __init__(self, place: Place, planner: Planner, out: Path, replan_hz: int) -> None:
        out.mkdir(parents=True, exist_ok=True)  # On every machine that drives.
        self._place = place
        self._planner = planner
        self._out = out
        self._replan_hz = replan_hz

    def __call__(self, route: Route) -> RouteReport:
        driven = drive(self._place, route, self._planner, replan_hz=self._replan_hz)
        result = route_report(driven, None)
        if result.row["clean"] or not driven.glimpses:
            return result
        video = f"route{route.index}.mp4"
        try:
            write_video(self._out / video, self._place.map, driven)
        except OSError as error:  # the drive, which took minutes, is worth a report without
            _logger.warning("%s", error)
            return result
        return route_report(driven, video)


class _GrowingReport:
    """The report of the routes that are driven so far.

    Attributes:
        place: Where they are.
        content: What `report.json` holds.
    """

    def __init__(
        self, options: ClosedLoopOptions, more: Callable[[], dict[str, Any]] = dict
    ) -> None:
        self._begin_s = time.perf_counter()
        self._options, self._more = options, more
        self._reports: list[RouteReport] = []
        self.place = open_place(options.map_path, options.cache)
        options.out.mkdir(parents=True, exist_ok=True)
        self.content: dict[str, Any] = {}

    def add(self, driven: RouteReport) -> None:
        """Writes the report anew, with one more route."""
        self._reports.append(driven)
        options, rows = self._options, [entry.row for entry in self._reports]
        wall_s = time.perf_counter() - self._begin_s
        self.content = {
            "planner": options.planner,
            "bundle_sha256": bundle_sha256(options.planner),
            "sensor": options.sensor,
            "map": self.place.map.name,
            "seed": options.seed,
            "replan_hz": options.replan_hz,
            "guarded": options.guarded,
            "routes_asked": options.routes,
            **summary(rows),
            "real_time_factor": round(sum(row["seconds"] for row in rows) / wall_s, 2),
            "timing": {"wall_s": round(wall_s, 2)},
            "per_route": rows,
            **self._more(),
        }
        write_report(options.out, self.content, self._reports)


def bundle_sha256(planner: str) -> str | None:
    """Returns the hash of a bundle's manifest, which has those of its files, or None."""
    manifest = Path(planner) / MANIFEST_NAME
    return file_sha256(manifest) if manifest.is_file() else None


def check_replan_hz(replan_hz: int) -> None:
    """Raises ClosedLoopError if a rate of plans does not fit the steps of the simulation."""
    if replan_hz < 1 or STEPS_PER_SECOND % replan_hz:
        raise ClosedLoopError(f"replan-hz: expected 1, 2, 5 or 10, got {replan_hz}")


def check_options(options: ClosedLoopOptions) -> None:
    """Raises ClosedLoopError if a number is out of range."""
    if options.routes < 1:
        raise ClosedLoopError(f"routes: expected at least 1, got {options.routes}")
    check_replan_hz(options.replan_hz)
    if options.guarded and options.planner in (CONSTANT_VELOCITY, PDM_CLOSED):
        raise ClosedLoopError(f"guard: {options.planner} has no candidates; expected a bundle")
