"""Where a vehicle of a log can be: on the road, clear of others, not beyond a red light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.metrics.pdm_scene import AreaMap
from rap_evaluation.planners.observation import LEVEL_M
from rap_raster.frames import FloatArray
from rap_raster.scene import LightState
from rap_training.augmentation.recovery.clearance_kernels import (
    Footprint,
    Traffic,
    in_area,
    leaves_road,
    meets_traffic,
)
from rap_training.augmentation.road import all_areas, area_ring, drivable_area


@dataclass(frozen=True, slots=True)
class Signal:
    """A light over the lane it closes.

    Attributes:
        red: (T,) True at the steps of the log at which it is.
        edges: (E, 4) x, y of both ends of the edges of the lane's outline.
    """

    red: npt.NDArray[np.bool_]
    edges: FloatArray


class FreeSpace:
    """What is in the way in one log.

    Attributes:
        edges: (E, 4) x, y of both ends of all edges of the road's border; none without a map.
    """

    def __init__(self, log: DriveLog) -> None:
        """Joins the drivable areas of the log's map."""
        areas = all_areas(log.map)
        self.edges = border_edges(drivable_area(areas))
        self._log = log
        self._connectors = _connector_edges(log, areas)
        tracks = log.tracks
        self._traffic = Traffic(
            tracks.first_steps, tracks.last_steps, tracks.offsets, tracks.states, tracks.sizes_m
        )

    def on_road(self, poses: FloatArray, footprint: Footprint) -> bool:
        """True if a vehicle stays wholly on the road; poses are (n, >= 3) of its rear axle."""
        return not leaves_road(poses, footprint, self.edges)

    def clear(
        self,
        poses: FloatArray,
        heights_m: FloatArray,
        footprint: Footprint,
        *,
        step: int,
        seat: int,
    ) -> bool:
        """True if a vehicle touches nobody who is on its level.

        Args:
            poses: (n, >= 3) x, y, yaw of its rear axle, one step of the log apart.
            heights_m: (n,) of the ground below it.
            footprint: Its box.
            step: Of the log, of the first pose.
            seat: Track that is the vehicle.
        """
        tracks = self._log.tracks
        there = (tracks.first_steps < step + len(poses)) & (tracks.last_steps >= step)
        rows = np.flatnonzero(there & (tracks.ids != seat))
        return not meets_traffic(poses, heights_m, footprint, self._traffic, rows, step, LEVEL_M)

    def signals(self, lanes: Sequence[str]) -> list[Signal]:
        """Returns the lights of some lanes."""
        return [
            Signal(self._log.lights.states[:, column] == LightState.RED, self._connectors[lane])
            for column, lane in enumerate(self._log.lights.lane_ids)
            if lane in self._connectors and lane in lanes
        ]


def runs_red(
    poses: FloatArray,
    recorded: FloatArray,
    footprint: Footprint,
    *,
    step: int,
    signals: Sequence[Signal],
) -> bool:
    """True if a vehicle is in a lane on red where it was not in the recorded drive.

    Args:
        poses: (n, >= 3) x, y, yaw of its rear axle, one step of the log apart.
        recorded: (n, >= 3) those of the recorded drive.
        footprint: Its box.
        step: Of the log, of the first pose.
        signals: Of its route.
    """
    for signal in signals:
        red = signal.red[step : step + len(poses)]
        if red.any():
            here, there = (in_area(run, footprint, signal.edges) for run in (poses, recorded))
            if (red & here & ~there).any():
                return True
    return False


def border_edges(shape: shapely.Geometry) -> FloatArray:
    """Returns the (E, 4) edges of the rings of a shape of polygons: x, y of both ends."""
    rings = shapely.get_parts(shapely.boundary(shape))
    lines = [shapely.get_coordinates(part) for part in rings]
    edges = [np.hstack([line[:-1], line[1:]]) for line in lines]
    return np.concatenate([*edges, np.zeros((0, 4))])


def _connector_edges(log: DriveLog, areas: AreaMap) -> dict[str, FloatArray]:
    """Returns the edges of the lanes that have lights, by their ids."""
    lit = set(log.lights.lane_ids)
    rings = {key: area_ring(areas, row) for row, key in enumerate(areas.ids) if key in lit}
    return {key: np.hstack([ring, np.roll(ring, -1, axis=0)]) for key, ring in rings.items()}
