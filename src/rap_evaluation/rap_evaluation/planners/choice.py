"""Planners by the names that commands know them by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rap_evaluation.kept_arrays import KEEP_NOTHING, KeptArrays
from rap_evaluation.planners.bundle_planner import BundlePlanner
from rap_evaluation.planners.constant_velocity import ConstantVelocity
from rap_evaluation.planners.expert_planner import ExpertPlanner
from rap_evaluation.planners.observation import Planner
from rap_inference.bundle import load_bundle
from rap_planner.planner import PATIENCE_S
from rap_raster.features import FeatureSource
from rap_raster.maps.vector_map import VectorMap

SENSORS = {"raster": FeatureSource.RASTER, "camera": FeatureSource.CAMERA}
"""What bundles can see with."""

CONSTANT_VELOCITY, PDM_CLOSED = "constant-velocity", "pdm-closed"
"""Planners with a name; all others are bundle folders."""

PlannerMaker = Callable[[VectorMap], Planner]
"""Makes a planner for a map."""


class PlannerChoiceError(ValueError):
    """A planner or sensor that does not exist; the text lists those that do."""


def planner_maker(
    name: str, sensor: str, *, patience_s: float = PATIENCE_S, kept: KeptArrays = KEEP_NOTHING
) -> PlannerMaker:
    """Returns what makes the planner of that name for a map.

    Args:
        name: `CONSTANT_VELOCITY`, `PDM_CLOSED` or a bundle folder.
        sensor: What a bundle sees with: a key of `SENSORS`.
        patience_s: Of a bundle; see `BundleDriver`.
        kept: Where pictures of cameras are kept.

    Raises:
        PlannerChoiceError: If there is no such planner or sensor.
        BundleError: If the bundle cannot be used.
    """
    if sensor not in SENSORS:
        known = ", ".join(SENSORS)
        raise PlannerChoiceError(f"sensor: expected one of {known}, got '{sensor}'")
    if name == CONSTANT_VELOCITY:
        return lambda vector_map: ConstantVelocity()
    if name == PDM_CLOSED:
        return ExpertPlanner
    if not Path(name).is_dir():
        raise PlannerChoiceError(
            f"planner: expected {CONSTANT_VELOCITY}, {PDM_CLOSED} or a bundle folder, got '{name}'"
        )
    bundle = load_bundle(Path(name))
    return lambda vector_map: BundlePlanner(
        bundle, vector_map, SENSORS[sensor], patience_s=patience_s, kept=kept
    )
