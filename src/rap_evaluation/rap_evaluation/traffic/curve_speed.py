"""Speed limits by curvature.

SUMO slows down for turns in junctions but takes bends of roads at full speed. Drivers do not: they
keep the lateral acceleration comfortable and brake before the bend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from scipy.ndimage import gaussian_filter1d

from rap_evaluation.traffic.demand import kind_of
from rap_raster.frames import FloatArray

MAX_LATERAL_MPS2 = 2.5
"""Comfortable for passengers; nuPlan drivers stay below it in nearly all turns."""

_BRAKING_MPS2 = 1.5
_STEP_M = 1.0
_SWEEPS = 4  # Braking from 28 m/s takes 200 m: over two junctions and their approaches.
_SMOOTHING_M = 2.0  # Net shapes are polygons: curvature is spread over their corners.


@dataclass(frozen=True, slots=True)
class SpeedProfile:
    """Highest speed along a lane, at every metre from its start."""

    speeds_mps: FloatArray

    def at(self, along_m: float) -> float:
        """Returns the limit at a distance from the lane's start."""
        last = len(self.speeds_mps) - 1
        place = min(max(along_m / _STEP_M, 0.0), last)
        before = min(int(place), last - 1) if last else 0
        share = place - before
        start, end = self.speeds_mps[before], self.speeds_mps[min(before + 1, last)]
        return float(start + share * (end - start))


def speed_profile(shape_m: FloatArray) -> SpeedProfile:
    """Returns the profile of a (n, 2) lane shape by lateral acceleration alone."""
    steps = np.diff(shape_m, axis=0)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*steps.T))])
    grid = np.arange(0.0, along[-1] + _STEP_M, _STEP_M)
    heading = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    middles = 0.5 * (along[1:] + along[:-1])
    smooth = gaussian_filter1d(
        np.interp(grid, middles, heading), _SMOOTHING_M / _STEP_M, mode="nearest"
    )
    curvature = np.abs(np.gradient(smooth, _STEP_M)) if len(grid) > 1 else np.zeros(1)
    speeds = np.sqrt(MAX_LATERAL_MPS2 / np.maximum(curvature, 1e-4))
    return SpeedProfile(speeds)


def braked(profile: SpeedProfile, end_mps: float) -> SpeedProfile:
    """Returns the profile lowered so that drivers brake in time for all of it, and for its end."""
    ahead = np.append(profile.speeds_mps, end_mps) ** 2
    distance = 2.0 * _BRAKING_MPS2 * _STEP_M * np.arange(len(ahead))
    # v^2 may fall by 2 a per metre: the least of all later limits, each raised by its distance.
    allowed = np.minimum.accumulate((ahead + distance)[::-1])[::-1] - distance
    return SpeedProfile(np.sqrt(allowed[:-1]))


class CurveDrivers:
    """Makes all vehicles of a running simulation respect the profiles of their lanes."""

    def __init__(self, sumo: ModuleType, profiles: Mapping[str, SpeedProfile]) -> None:
        """Prepares a running simulation.

        Args:
            sumo: libsumo, started.
            profiles: From `bend_profiles`.
        """
        self._sumo = sumo
        self._profiles = profiles
        self._slowed: set[str] = set()

    def step(self) -> None:
        """Limits every vehicle on a bend, and frees those that have left one."""
        slowed = set()
        for vehicle in self._sumo.vehicle.getIDList():
            profile = self._profiles.get(self._sumo.vehicle.getLaneID(vehicle))
            if profile is not None:
                limit = profile.at(self._sumo.vehicle.getLanePosition(vehicle))
                own = kind_of(vehicle).max_speed_mps
                self._sumo.vehicle.setMaxSpeed(vehicle, max(0.5, min(own, limit)))
                slowed.add(vehicle)
            elif vehicle in self._slowed:
                self._sumo.vehicle.setMaxSpeed(vehicle, kind_of(vehicle).max_speed_mps)
        self._slowed = slowed


def bend_profiles(sumo: ModuleType) -> dict[str, SpeedProfile]:
    """Returns the profiles of all lanes of a running simulation that bend."""
    # Drivers may want up to 1.35 times the limit, see demand.
    return {
        lane: profile
        for lane, profile in _network_profiles(sumo).items()
        if profile.speeds_mps.min() < 1.35 * sumo.lane.getMaxSpeed(lane)
    }


def _network_profiles(sumo: ModuleType) -> dict[str, SpeedProfile]:
    """Returns the profiles of all lanes, each braking for the easiest way on from its end."""
    lanes = sumo.lane.getIDList()
    profiles = {lane: speed_profile(np.array(sumo.lane.getShape(lane))[:, :2]) for lane in lanes}
    onward = {lane: [link[4] or link[0] for link in sumo.lane.getLinks(lane)] for lane in lanes}
    for _ in range(_SWEEPS):
        for lane, following in onward.items():
            starts = [profiles[n].speeds_mps[0] for n in following if n in profiles]
            profiles[lane] = braked(profiles[lane], max(starts, default=np.inf))
    return profiles
