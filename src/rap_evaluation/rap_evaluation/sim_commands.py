"""Command of the closed loop through the ROS graph: the nodes of the vehicle drive."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rap_bringup.graph_params import (
    GUARD,
    MAP,
    PERCEPTION,
    PLANNER,
    RASTER,
    Params,
    load_params,
    overridden,
    write_params,
)
from rap_bringup.paths import DEFAULT_BUNDLE, PARAMS_FILE, SIM_PARAMS, resource
from rap_bringup.processes import (
    DRIVE_MODULE,
    GUARD_MODULE,
    MAP_MODULE,
    NodeProcess,
    ProcessError,
    free_domain,
    graph_environment,
    start,
    stop_all,
    stop_requests,
)
from rap_bringup.rotations import quaternion_from_rotation
from rap_evaluation.closed_loop.evaluation import check_replan_hz
from rap_evaluation.closed_loop.report import JSON_NAME
from rap_evaluation.command_options import ReportFolder, SensorOption
from rap_evaluation.planners.choice import SENSORS, PlannerChoiceError
from rap_evaluation.traffic.towns import map_path
from rap_inference.bundle import Bundle, load_bundle
from rap_planner.checks import CHECKS
from rap_raster.encoder import nominal_rig

SIM = "/**/sim_node"
SIM_MODULE = "rap_evaluation.ros.sim_node"

CHECK_MODES = ("enforce", "shadow")
JUDGING = tuple(name for name in CHECKS if name != "finite")
"""Checks that may be told to stop nothing; numbers that are none never pass."""

_POLL_S = 0.2
_PACE = 0.8  # The raster node takes objects a quarter of a period early; they come every 0.1 s.
_PLAN_MARGIN_S = 0.1  # The guard looks at a plan up to two of its cycles after the next one is due.


def sim_command(
    *,
    map_name: Annotated[str, typer.Option("--map", help="Town01, or a .xodr or .xodr.gz file.")],
    out: ReportFolder,
    bundle: Annotated[
        Path | None, typer.Option(help="Model bundle; default: models/default.")
    ] = None,
    sensor: SensorOption = "raster",
    routes: Annotated[int, typer.Option(min=1, help="How many, each of at least 300 m.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of the routes and the traffic.")] = 0,
    replan_hz: Annotated[int, typer.Option(help="Plans a second: 1, 2, 5 or 10.")] = 2,
    checks: Annotated[
        str, typer.Option(help="Of the guard: enforce as shipped, or shadow: they stop nothing.")
    ] = "enforce",
    against: Annotated[
        Path | None,
        typer.Option(help="report.json of closed-loop on the same routes, to compare with."),
    ] = None,
    domain_id: Annotated[
        int | None,
        typer.Option(
            min=0, max=232, help="ROS domain; default: a free one, never that of this shell."
        ),
    ] = None,
) -> None:
    """Drives routes through traffic with the nodes of the vehicle, the guard active.

    Starts perception, raster, planner, guard and map node and the simulation, which waits for them.
    Leaves what closed-loop leaves, and the nodes' logs.

    Examples:
    rap-evaluate sim --map Town01 --routes 2 --seed 5 --out out/sim
    rap-evaluate sim --map Town01 --seed 5 --out out/sim --against out/closed/report.json
    rap-evaluate sim --map Town01 --seed 5 --out out/sim --checks shadow
    """
    if sensor not in SENSORS:
        raise PlannerChoiceError(f"sensor: expected one of {', '.join(SENSORS)}, got '{sensor}'")
    if checks not in CHECK_MODES:
        raise ValueError(f"checks: expected one of {', '.join(CHECK_MODES)}, got '{checks}'")
    check_replan_hz(replan_hz)
    offline = None if against is None else _read_report(against)
    loaded = load_bundle(bundle or resource(DEFAULT_BUNDLE))
    params = sim_params(loaded, map_path(map_name).resolve(), sensor, replan_hz)
    if checks == "shadow":
        params[GUARD] |= dict.fromkeys((f"checks.{name}" for name in JUDGING), checks)
    params[SIM] |= {
        "out": str(out.resolve()),
        "routes": routes,
        "seed": seed,
        "guarded": checks != "shadow",
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / JSON_NAME).unlink(missing_ok=True)  # Of an earlier run; this one may fail.
    write_params(params, out / "params.yaml")
    _run(out, free_domain() if domain_id is None else domain_id)
    report = _read_report(out / JSON_NAME)
    figures = {key: value for key, value in report.items() if key != "per_route"}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    if offline is not None:
        sys.stdout.write(comparison(offline, report))


def sim_params(bundle: Bundle, map_file: Path, sensor: str, replan_hz: int) -> Params:
    """Returns the shipped parameters, adapted to a simulation.

    Args:
        bundle: Who drives.
        map_file: Where.
        sensor: A key of `SENSORS`.
        replan_hz: Plans a second.
    """
    params = overridden(load_params(resource(PARAMS_FILE)), load_params(resource(SIM_PARAMS)))
    path = str(bundle.path.resolve())
    for name in (PERCEPTION, RASTER, PLANNER):
        params.setdefault(name, {})["bundle.path"] = path
    params[GUARD]["limits.candidate_age_s"] = max(
        params[GUARD]["limits.candidate_age_s"], 1.0 / replan_hz + _PLAN_MARGIN_S
    )
    params[RASTER] |= {
        "rate_hz": _PACE * replan_hz,
        "sync.frame_timeout_s": 1.0 / replan_hz + _PLAN_MARGIN_S,
    }
    params[MAP] = {**params.get(MAP, {}), "map.path": str(map_file)}
    if sensor == "camera":
        cameras = _camera_params(bundle)
        params[PERCEPTION] |= cameras
        params[RASTER]["cameras.names"] = list(cameras["cameras.names"])  # no YAML alias
    params[SIM] = {
        **params.get(SIM, {}),
        "map.path": str(map_file),
        "bundle.path": path,
        "sensor": sensor,
        "replan_hz": replan_hz,
    }
    params["/**"] = {"use_sim_time": True}
    return params


def _camera_params(bundle: Bundle) -> dict[str, Any]:
    """Returns perception's parameters for the nominal rig of a bundle."""
    rig = nominal_rig(bundle)
    names = [camera.name for camera in rig]
    result: dict[str, Any] = {
        "cameras.names": names,
        "cameras.slots": list(names),
        "sync.anchor": names[0],
    }
    for camera in rig:
        pose = camera.ego_from_camera
        values = [*pose[:3, 3], *quaternion_from_rotation(pose[:3, :3])]
        result[f"cameras.extrinsics.{camera.name}"] = [float(value) for value in values]
    return result


def _run(out: Path, domain: int) -> None:
    """Runs graph and simulation until the last route is driven.

    Raises:
        ProcessError: If a process ends early or fails, or a signal arrives.
    """
    environment = graph_environment(domain)
    arguments = ["--ros-args", "--params-file", str(out / "params.yaml")]
    graph = {"drive": DRIVE_MODULE, "guard": GUARD_MODULE, "map": MAP_MODULE}
    children: list[NodeProcess] = []
    with stop_requests() as check_requests:
        try:
            for name, module in graph.items():
                log = out / f"{name}.log"
                children.append(start(f"{name} process", module, arguments, environment, log))
            simulation = start("simulation", SIM_MODULE, arguments, environment)
            children.append(simulation)
            _wait_for(simulation, children[:-1], check_requests)
        except SystemExit as error:
            told = (
                "is of the routes driven so far" if (out / JSON_NAME).exists() else "is not there"
            )
            raise ProcessError(f"interrupted, the report {told}") from error
        finally:
            stop_all(list(reversed(children)))


def _wait_for(
    simulation: NodeProcess, graph: Sequence[NodeProcess], check_requests: Callable[[], None]
) -> None:
    while (status := simulation.process.poll()) is None:
        check_requests()
        for child in graph:
            child.check()
        time.sleep(_POLL_S)
    if status != 0:
        raise ProcessError(f"simulation ended with status {status}: {simulation.last_error()}")


def _read_report(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("per_route"), list):
        raise ValueError(f"{path}: is not the report of a closed loop: has no per_route")
    return content


def comparison(offline: dict[str, Any], graph: dict[str, Any]) -> str:
    """Returns a table of driving scores, route by route.

    Args:
        offline: `report.json` of `closed-loop`.
        graph: That of `sim`.

    Raises:
        ValueError: If other routes were driven, or another bundle drove.
    """
    for key in ("map", "seed", "replan_hz", "sensor", "bundle_sha256", "guarded"):
        if offline.get(key) != graph.get(key):
            raise ValueError(f"against: {key} is {offline.get(key)!r}, here {graph.get(key)!r}")
    rows = {row["route"]: row for row in offline["per_route"]}
    lines = [f"{'route':>5} {'offline':>8} {'graph':>8} {'difference':>10}  offline | graph"]
    differences = []
    for row in graph["per_route"]:
        if (other := rows.get(row["route"])) is None:
            raise ValueError(f"against: has no route {row['route']}")
        scores = other["driving_score"], row["driving_score"]
        differences.append(scores[1] - scores[0])
        lines.append(
            f"{row['route']:5d} {scores[0]:8.2f} {scores[1]:8.2f} {differences[-1]:+10.2f}  "
            f"{other['status']} | {row['status']}"
        )
    mean = sum(differences) / len(differences)
    return "\n".join([*lines, f"{'mean':>5} {'':8} {'':8} {mean:+10.2f}"]) + "\n"
