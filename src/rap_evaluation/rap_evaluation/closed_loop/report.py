"""The report of a closed-loop evaluation: `report.json` for programs, `report.html` for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from rap_evaluation.closed_loop import plots
from rap_evaluation.closed_loop.drive import SIMULATION_ERROR, Drive
from rap_evaluation.closed_loop.events import Collision
from rap_evaluation.closed_loop.scores import DriveScore, runs, score_drive
from rap_evaluation.metrics.pdm_scene import DT_S

DECIMALS = 4
"""Of numbers in the report."""

TOLERANCE_M = 0.3
"""How far off the road nuPlan lets corners be. Source: nuplan-devkit, `drivable_area_compliance` of
the closed-loop metrics."""

JSON_NAME, HTML_NAME = "report.json", "report.html"


@dataclass(frozen=True, slots=True)
class RouteReport:
    """What the report says about one route.

    Attributes:
        row: Its entry of `per_route`.
        map_svg: The route from above.
        speed_svg: Speed over time.
    """

    row: dict[str, Any]
    map_svg: str
    speed_svg: str


def route_report(drive: Drive, video: str | None) -> RouteReport:
    """Reports one drive.

    Args:
        drive: The drive.
        video: Name of its video beside the report, if there is one.
    """
    score = score_drive(drive)
    row = {
        "route": drive.route.index,
        "seed": drive.route.seed,
        "status": _status(drive, score),
        "clean": is_clean(drive, score),
        "clean_within_tolerance": not drive.failure and score.faultless_within(TOLERANCE_M),
        "driving_score": score.driving_score,
        **asdict(score),
        "length_m": drive.route.length_m,
        "junctions": len(drive.route.junctions),
        "seconds": drive.seconds,
        "mean_speed_mps": _mean_speed(drive),
        "removed_stuck": drive.removed_stuck,
        "events": _events(drive),
        "video": video,
    }
    return RouteReport(_rounded(row), plots.route_map(drive), plots.speed_plot(drive))


def is_clean(drive: Drive, score: DriveScore) -> bool:
    """True for a completed drive on which the ego did nothing wrong."""
    return not drive.failure and score.faultless


def _status(drive: Drive, score: DriveScore) -> str:
    if drive.failure:
        return f"Failed - {drive.failure}"
    return "Perfect" if score.faultless and not score.collisions_not_at_fault else "Completed"


def _mean_speed(drive: Drive) -> float:
    driven_m = float(np.hypot(*np.diff(drive.states[:, :2], axis=0).T).sum())
    return driven_m / drive.seconds if drive.seconds else 0.0


def _events(drive: Drive) -> list[dict[str, Any]]:
    """Returns all events in the order of time."""
    events = drive.events
    found = [(collision.step, _collision_text(collision)) for collision in events.collisions]
    found += [(step, "red light") for step in events.red_light_steps]
    found += [(run[0], "outside the lanes of the route") for run in runs(events.off_lane_steps)]
    for run in runs(events.off_road_m):
        farthest_m = max(events.off_road_m[step] for step in run)
        found.append((run[0], f"off the road by {farthest_m:.2f} m"))
    return [{"time_s": step * DT_S, "what": what} for step, what in sorted(found)]


def _collision_text(collision: Collision) -> str:
    blame = "at fault" if collision.at_fault else "not at fault"
    who = collision.object_class.name.lower()
    return f"collision with {who} {collision.track}: {collision.kind.value}, {blame}"


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the figures over all routes."""
    comforts = [row["comfort"] for row in rows if row["comfort"] is not None]
    return _rounded(
        {
            "routes": len(rows),
            "completed": sum(not row["status"].startswith("Failed") for row in rows),
            "collisions_at_fault": sum(row["collisions_at_fault"] for row in rows),
            "collisions_not_at_fault": sum(row["collisions_not_at_fault"] for row in rows),
            "off_road": sum(row["off_road"] for row in rows),
            "off_road_m": max(row["off_road_m"] for row in rows),
            "off_lane_share": float(np.mean([row["off_lane_share"] for row in rows])),
            "red_lights": sum(row["red_lights"] for row in rows),
            "clean_routes": sum(row["clean"] for row in rows),
            "clean_routes_within_tolerance": sum(row["clean_within_tolerance"] for row in rows),
            "driving_score": float(np.mean([row["driving_score"] for row in rows])),
            "completion": float(np.mean([row["completion"] for row in rows])),
            "comfort": float(np.mean(comforts)) if comforts else None,
            "simulation_errors": sum(SIMULATION_ERROR in row["status"] for row in rows),
            "removed_stuck": sum(row["removed_stuck"] for row in rows),
        }
    )


def write_report(out: Path, report: dict[str, Any], routes: Sequence[RouteReport]) -> None:
    """Writes both files.

    Args:
        out: Folder that exists.
        report: Everything `report.json` holds.
        routes: With the plots.
    """
    (out / JSON_NAME).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    source = files("rap_evaluation.closed_loop").joinpath(HTML_NAME).read_text(encoding="utf-8")
    page = (
        Environment(autoescape=True)
        .from_string(source)
        .render(
            report=report,
            bars=plots.score_bars([row["driving_score"] for row in report["per_route"]]),
            plots=[(route.map_svg, route.speed_svg) for route in routes],
        )
    )
    (out / HTML_NAME).write_text(page, encoding="utf-8")


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Returns JSON content with all its numbers rounded, nested ones too."""
    text = json.dumps(values)
    result: dict[str, Any] = json.loads(text, parse_float=lambda n: round(float(n), DECIMALS))
    return result
