"""Runs SUMO and keeps what happened, in SUMO's own terms."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np

from rap_evaluation.traffic.curve_speed import CurveDrivers, bend_profiles
from rap_evaluation.traffic.demand import Demand, type_file
from rap_evaluation.traffic.network import Network
from rap_evaluation.traffic.towns import TrafficError

DT_S = 0.1
"""Step of simulation and log: 10 Hz, as driving data sets have it."""

WARM_UP_S = 60.0
"""Before recording: traffic spreads out, queues form at lights."""

LEAD_IN_S = 10.0
"""Paths are known this long before the log begins: vehicles follow where their fronts have been."""

LEAD_OUT_S = 2.0
"""And this long after its end: jumps are spread over 1.5 s to both sides."""

Sample = tuple[int, float, float, float, float, float]
"""Step of the log, x, y, z (network coordinates), heading and speed of a road user."""


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What to record.

    Attributes:
        seconds: Length of the log.
        seed: Of the traffic; the same seed gives the same log.
        vehicles: How many vehicles are kept on the road.
        pedestrians: How many people are kept walking.
        egos: How many cars count as recording vehicles, whose drives are the log's own.
    """

    seconds: float = 100.0
    seed: int = 0
    vehicles: int = 70
    pedestrians: int = 30
    egos: int = 1

    @property
    def steps(self) -> int:
        """Length of the log in steps."""
        return round(self.seconds / DT_S)


@dataclass(frozen=True, slots=True)
class Trace:
    """What happened.

    Attributes:
        samples: Per road user, front bumper (middle of a person) over time; steps before 0 and
            after the end of the log belong to the lead-in and lead-out.
        sizes_m: Length, width and height of each.
        light_states: Per traffic light and step of the log, SUMO's state text.
    """

    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    sizes_m: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    light_states: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def simulate(
    network: Network, options: RecordOptions, progress: Callable[[float], None] | None = None
) -> Trace:
    """Runs a simulation from its warm-up to the end of the log.

    Args:
        network: Where.
        options: What to record.
        progress: Called with the share that is done, 0 to 1.

    Raises:
        TrafficError: If libsumo is not installed.
    """
    with simulation(network, options.seed) as sumo:
        return _run(sumo, network, options, progress)


@contextlib.contextmanager
def simulation(network: Network, seed: int) -> Iterator[ModuleType]:
    """Starts libsumo on a network with the road users' types and the map's speed limits.

    libsumo has one simulation per process; it is closed at the end.

    Raises:
        TrafficError: If libsumo is not installed.
    """
    sumo = _libsumo()
    with tempfile.TemporaryDirectory() as folder:
        types = Path(folder) / "types.add.xml"
        types.write_text(type_file(np.random.default_rng(seed)))
        sumo.start(_command(network, types, seed))
        try:
            for edge, limit_mps in network.speed_limits_mps.items():
                sumo.edge.setMaxSpeed(edge, limit_mps)
            yield sumo
        finally:
            sumo.close()


def _libsumo() -> ModuleType:
    try:
        # It prints a warning about pyarrow's version; its own copy has another name, so both work.
        with contextlib.redirect_stdout(io.StringIO()):
            import libsumo  # noqa: PLC0415  (optional: an offline dependency)
    except ImportError as error:
        raise TrafficError("libsumo is not installed: run make setup") from error
    module: ModuleType = libsumo
    return module


def _command(network: Network, types: Path, seed: int) -> list[str]:
    return [
        "sumo", "--net-file", str(network.path), "--additional-files", str(types),
        "--step-length", str(DT_S), "--step-method.ballistic", "--lanechange.duration", "3",
        "--seed", str(seed), "--time-to-teleport", "120", "--collision.action", "warn",
        "--no-step-log", "--no-warnings", "--duration-log.disable", "--xml-validation", "never",
    ]  # fmt: skip


def _run(
    sumo: ModuleType,
    network: Network,
    options: RecordOptions,
    progress: Callable[[float], None] | None,
) -> Trace:
    duration_s = WARM_UP_S + options.seconds + LEAD_OUT_S
    demand = Demand(
        sumo,
        network,
        vehicles=options.vehicles,
        pedestrians=options.pedestrians,
        duration_s=duration_s,
        seed=options.seed,
    )
    curves = CurveDrivers(sumo, bend_profiles(sumo))
    trace = Trace()
    warm_up, steps, per_second = round(WARM_UP_S / DT_S), round(duration_s / DT_S), round(1 / DT_S)
    for i in range(steps):
        if i % per_second == 0:
            demand.step()
            if progress is not None:
                progress(i / steps)
        curves.step()
        sumo.simulationStep()
        _observe(sumo, i - warm_up, options.steps, trace)
    return trace


def _observe(sumo: ModuleType, step: int, steps: int, trace: Trace) -> None:
    """Adds the present state to a trace, if it belongs to the log or its lead-in or lead-out."""
    if step < -round(LEAD_IN_S / DT_S):
        return
    for domain in (sumo.vehicle, sumo.person):
        for key in domain.getIDList():
            if key not in trace.sizes_m:
                size = (domain.getLength(key), domain.getWidth(key), domain.getHeight(key))
                trace.sizes_m[key] = size
            x, y, z = domain.getPosition3D(key)
            heading_rad = np.pi / 2 - np.radians(domain.getAngle(key))  # Clockwise from north.
            trace.samples[key].append((step, x, y, z, heading_rad, domain.getSpeed(key)))
    if 0 <= step < steps:
        for key in sumo.trafficlight.getIDList():
            trace.light_states[key].append(sumo.trafficlight.getRedYellowGreenState(key))
