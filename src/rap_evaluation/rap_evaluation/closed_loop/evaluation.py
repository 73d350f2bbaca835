"""The closed-loop evaluation: many routes, one after the other, and their report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rap_bringup.console import Report, silent
from rap_evaluation.closed_loop.drive import drive
from rap_evaluation.closed_loop.expert_planner import ExpertPlanner
from rap_evaluation.closed_loop.place import Place, open_place
from rap_evaluation.closed_loop.planners import BundlePlanner, ConstantVelocity, Planner
from rap_evaluation.closed_loop.report import RouteReport, route_report, summary, write_report
from rap_evaluation.closed_loop.routes import Route, draw_routes
from rap_evaluation.closed_loop.video import write_video
from rap_inference.bundle import load_bundle
from rap_raster.features import FeatureSource

SENSORS = {"raster": FeatureSource.RASTER, "camera": FeatureSource.CAMERA}
"""What bundles can see with."""

CONSTANT_VELOCITY, PDM_CLOSED = "constant-velocity", "pdm-closed"
"""Planners with a name; all others are bundle folders."""

_STEPS_PER_SECOND = 10


class ClosedLoopError(ValueError):
    """An evaluation cannot be run as asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class ClosedLoopOptions:
    """What to evaluate.

    Attributes:
        planner: `CONSTANT_VELOCITY`, `PDM_CLOSED` or a bundle folder.
        sensor: What a bundle sees with: a key of `SENSORS`.
        map_path: OpenDRIVE file.
        cache: Folder for SUMO networks.
        out: Folder of the report; made if missing.
        routes: How many.
        seed: Of routes and traffic.
        replan_hz: Plans a second.
    """

    planner: str
    sensor: str
    map_path: Path
    cache: Path
    out: Path
    routes: int
    seed: int
    replan_hz: int


def evaluate_closed_loop(options: ClosedLoopOptions, report: Report = silent) -> dict[str, Any]:
    """Drives all routes and writes the report and a video of every failed route.

    Args:
        options: What to evaluate.
        report: Called with the share that is done.

    Returns:
        What `report.json` holds.

    Raises:
        ClosedLoopError: If an option is wrong.
        BundleError: If the bundle cannot be used.
        TrafficError: If the map has no routes, or SUMO is missing.
        MapError: If the map cannot be read.
    """
    _check(options)
    begin_s = time.perf_counter()
    place = open_place(options.map_path, options.cache)
    routes = draw_routes(place, options.routes, options.seed)
    planner = make_planner(options, place)
    options.out.mkdir(parents=True, exist_ok=True)
    reports: list[RouteReport] = []
    for done, route in enumerate(routes, start=1):
        reports.append(_evaluate_route(options, place, planner, route))
        report(done / len(routes), f" route {route.index}: {reports[-1].row['status']}")
    rows = [entry.row for entry in reports]
    wall_s = time.perf_counter() - begin_s
    content = {
        "planner": options.planner,
        "sensor": options.sensor,
        "map": place.map.name,
        "seed": options.seed,
        "replan_hz": options.replan_hz,
        **summary(rows),
        "real_time_factor": round(sum(row["seconds"] for row in rows) / wall_s, 2),
        "timing": {"wall_s": round(wall_s, 2)},
        "per_route": rows,
    }
    write_report(options.out, content, reports)
    return content


def make_planner(options: ClosedLoopOptions, place: Place) -> Planner:
    """Returns the planner that the options name."""
    if options.planner == CONSTANT_VELOCITY:
        return ConstantVelocity()
    if options.planner == PDM_CLOSED:
        return ExpertPlanner(place)
    return BundlePlanner(load_bundle(Path(options.planner)), place, SENSORS[options.sensor])


def _evaluate_route(
    options: ClosedLoopOptions, place: Place, planner: Planner, route: Route
) -> RouteReport:
    driven = drive(place, route, planner, replan_hz=options.replan_hz)
    result = route_report(driven, None)
    if result.row["clean"] or not driven.glimpses:
        return result
    video = f"route{route.index}.mp4"
    write_video(options.out / video, place.map, driven)
    return route_report(driven, video)


def _check(options: ClosedLoopOptions) -> None:
    if options.routes < 1:
        raise ClosedLoopError(f"routes: expected at least 1, got {options.routes}")
    if options.replan_hz < 1 or _STEPS_PER_SECOND % options.replan_hz:
        raise ClosedLoopError(f"replan-hz: expected 1, 2, 5 or 10, got {options.replan_hz}")
    if options.sensor not in SENSORS:
        known = ", ".join(SENSORS)
        raise ClosedLoopError(f"sensor: expected one of {known}, got '{options.sensor}'")
    named = options.planner in (CONSTANT_VELOCITY, PDM_CLOSED)
    if not named and not Path(options.planner).is_dir():
        raise ClosedLoopError(
            f"planner: expected {CONSTANT_VELOCITY}, {PDM_CLOSED} or a bundle folder, "
            f"got '{options.planner}'"
        )
