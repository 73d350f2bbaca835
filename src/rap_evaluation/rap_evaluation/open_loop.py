"""Open-loop evaluation: planned against driven futures, from what a rig sees of logged scenes.

It measures with the code that runs on the vehicle (bundle, encoder, planner), not with the training
model. Open-loop errors are no measure of driving; they answer whether a model learned anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rap_bringup.console import Report, silent
from rap_evaluation.kept_arrays import KEEP_NOTHING, KeptArrays
from rap_evaluation.logged_cameras import LoggedRigs
from rap_evaluation.logs.drive_log import DriveLog, LogError
from rap_evaluation.moments import Moment, is_standing, moments
from rap_evaluation.planners.bundle_driver import BundleDriver, Seen
from rap_evaluation.planners.camera_view import CameraView
from rap_evaluation.planners.choice import SENSORS, PlannerChoiceError
from rap_inference.bundle import Bundle
from rap_planner.route import Guidance
from rap_raster.features import FeatureSource
from rap_raster.frames import FloatArray, to_local

ADE_HORIZON_S = 3.0

LOGGED = "logged"
LOG_SENSORS = (*SENSORS, LOGGED)
"""What a bundle sees with: rasters, simulated images, or those that cameras of the log took."""


@dataclass(frozen=True, slots=True)
class OpenLoopReport:
    """Mean errors over moments.

    Attributes:
        moments: How many moments were evaluated.
        moving: How many of them go somewhere.
        ade_3s_m: Average displacement over 3 s of the best-scored candidate.
        ade_3s_constant_velocity_m: The same for a straight line at the current speed.
        min_ade_3s_m: The same for the candidate that turned out nearest.
        moving_ade_3s_m: `ade_3s_m` of the moving moments alone.
        moving_ade_3s_constant_velocity_m: Its baseline.
    """

    moments: int
    moving: int
    ade_3s_m: float
    ade_3s_constant_velocity_m: float
    min_ade_3s_m: float
    moving_ade_3s_m: float
    moving_ade_3s_constant_velocity_m: float

    def as_dict(self) -> dict[str, float | None]:
        """Returns the report as JSON wants it; what nobody moved for is None."""
        return {key: None if math.isnan(value) else value for key, value in asdict(self).items()}


class LogDriver:
    """Runs a bundle on what its rig sees of logged scenes."""

    def __init__(
        self,
        bundle: Bundle,
        sensor: str = "raster",
        kept: KeptArrays = KEEP_NOTHING,
        slots: Mapping[str, str] | None = None,
    ) -> None:
        """Loads both networks of the bundle.

        Args:
            bundle: The model.
            sensor: One of `LOG_SENSORS`.
            kept: Where simulated images are kept.
            slots: Slots by camera of the logs, see `LoggedRig`.

        Raises:
            PlannerChoiceError: If there is no such sensor.
        """
        if sensor not in LOG_SENSORS:
            known = ", ".join(LOG_SENSORS)
            raise PlannerChoiceError(f"sensor: expected one of {known}, got '{sensor}'")
        self._sensor, self._kept = sensor, kept
        self._views: dict[Path, CameraView] = {}
        self.manifest = bundle.manifest
        self._driver = BundleDriver(bundle, patience_s=math.inf)
        self._logged = LoggedRigs(self._driver.rig, slots)

    def sees(self, moment: Moment) -> bool:
        """Says whether there is something to see: `LOGGED` needs images."""
        return self._sensor != LOGGED or self._logged.has_photo(moment)

    def plan(self, moment: Moment) -> tuple[FloatArray, npt.NDArray[np.float32]]:
        """Returns (K, T, 3) proposals in the ego frame and their (K,) scores."""
        history, ego = self.manifest.history, moment.ego()
        candidates = self._driver.candidates(
            self._seen(moment),
            ego,
            moment.history(history.steps, history.dt_s),
            # The command alone: on roads without lanes, routes are made of the driven path.
            Guidance(moment.command(), "route"),
        )
        return to_local(ego.planar, candidates.poses_m), candidates.scores

    def _seen(self, moment: Moment) -> Seen:
        if self._sensor == LOGGED:
            photo = self._logged.of(moment.log).photo(moment)
            sources = np.where(photo.taken, FeatureSource.CAMERA, FeatureSource.MISSING)
            return Seen(photo.images, sources.astype(np.uint8), photo.rig)
        source = SENSORS[self._sensor]
        images = (
            self._driver.rasters(moment.geometry(self._driver.style))
            if source is FeatureSource.RASTER
            else self._simulated(moment)
        )
        return Seen.all_of(images, source, self._driver.rig)

    def _simulated(self, moment: Moment) -> npt.NDArray[np.uint8]:
        log, scene = moment.log, moment.scene()
        if log.path not in self._views:
            self._views[log.path] = CameraView(log.map, self._driver.rig, self._kept)
        # Light and noise of each moment are its own, whichever moments are drawn.
        seed = int(np.random.default_rng([moment.seat, moment.step]).integers(2**31))
        return self._views[log.path].images(scene.ego, scene.boxes, scene.lights, seed=seed)


def evaluate_open_loop(
    driver: LogDriver, moments: list[Moment], report: Report = silent
) -> OpenLoopReport:
    """Plans at every moment and compares with what was driven.

    Args:
        driver: Runs the model.
        moments: At least one.
        report: Called with the share that is done.
    """
    horizon_s = driver.manifest.horizon_steps * driver.manifest.dt_s
    rows = []
    for number, moment in enumerate(moments, start=1):
        rows.append((*_errors(driver, moment), is_standing(moment, horizon_s)))
        report(number / len(moments))
    table = np.array(rows, dtype=np.float64)
    moving = table[table[:, 3] == 0]
    return OpenLoopReport(
        moments=len(table),
        moving=len(moving),
        ade_3s_m=float(table[:, 0].mean()),
        ade_3s_constant_velocity_m=float(table[:, 1].mean()),
        min_ade_3s_m=float(table[:, 2].mean()),
        moving_ade_3s_m=float(moving[:, 0].mean()) if len(moving) else float("nan"),
        moving_ade_3s_constant_velocity_m=(
            float(moving[:, 1].mean()) if len(moving) else float("nan")
        ),
    )


@dataclass(frozen=True, slots=True)
class Seats:
    """Whose drives are looked at.

    Attributes:
        egos_only: Those of recording vehicles alone.
        min_travel_m: Of seats that get at least so far in their log.
    """

    egos_only: bool = False
    min_travel_m: float = 0.0

    def moments(self, log: DriveLog, horizon_s: float) -> list[Moment]:
        """Returns the moments of a log that have a full future."""
        found = moments(log, horizon_s)
        kept = {seat for seat in {moment.seat for moment in found} if self._keeps(log, seat)}
        return [moment for moment in found if moment.seat in kept]

    def _keeps(self, log: DriveLog, seat: int) -> bool:
        if self.egos_only and seat not in log.egos:
            return False
        path_m = log.ego_poses(seat)[:, :2]
        return float(np.hypot(*np.diff(path_m, axis=0).T).sum()) >= self.min_travel_m


EVERYBODY = Seats()


def open_loop_report(
    driver: LogDriver,
    logs: list[DriveLog],
    seats: Seats = EVERYBODY,
    *,
    count: int = 1000,
    seed: int = 0,
    report: Report = silent,
) -> OpenLoopReport:
    """Evaluates a bundle on moments drawn from some logs, each as likely as any other.

    Args:
        driver: Runs the model.
        logs: Where the moments come from.
        seats: Whose drives.
        count: How many moments; all there are if fewer.
        seed: Of the draw.
        report: Called with the share that is done.

    Raises:
        LogError: If no vehicle is there for as long as the bundle plans, or none has images.
    """
    horizon_s = driver.manifest.horizon_steps * driver.manifest.dt_s
    every = [moment for log in logs for moment in seats.moments(log, horizon_s)]
    if not every:
        raise LogError(f"{logs[0].name}: no vehicle is there for {horizon_s:g} s and far enough")
    every = [moment for moment in every if driver.sees(moment)]
    if not every:
        raise LogError(
            f"{logs[0].name}: no moment has images of all cameras that fill a slot of the bundle; "
            "see `rap-train sources`"
        )
    order = np.random.default_rng(seed).permutation(len(every))[:count]
    return evaluate_open_loop(driver, [every[i] for i in order], report)


def _errors(driver: LogDriver, moment: Moment) -> tuple[float, float, float]:
    """Returns the ADE of the best-scored candidate, of constant velocity and of the nearest."""
    dt_s = driver.manifest.dt_s
    steps = round(ADE_HORIZON_S / dt_s)
    driven = moment.future(steps, dt_s)[:, :2]
    proposals, scores = driver.plan(moment)
    displacement = np.linalg.norm(proposals[:, :steps, :2] - driven, axis=-1).mean(-1)
    straight = np.stack(
        [moment.ego().vx_mps * dt_s * np.arange(1, steps + 1), np.zeros(steps)], axis=-1
    )
    baseline = float(np.linalg.norm(straight - driven, axis=-1).mean())
    return float(displacement[scores.argmax()]), baseline, float(displacement.min())
