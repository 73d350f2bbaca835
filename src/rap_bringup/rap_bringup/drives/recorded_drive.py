"""A recorded drive: what the vehicle sensed and where it went, whatever file it came from.

Readers make one, `rap_bringup.bags` writes it as a bag. It holds what goes on the topics and
nothing else; in particular `route_m` carries places only and no times.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray
from rap_raster.maps.routing import route_along, route_points
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, Lights
from rap_raster.vehicle import PACIFICA, VehicleDimensions

START_NS = 1_000 * 10**9
"""Stamp of the first sample of a recording without absolute time: 0 means "no time" in ROS."""

MIN_SIZE_M = 0.05
"""No annotated object is thinner; smaller sizes are unfilled fields."""


NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + "_-")
MAX_NAME_LENGTH = 100
"""Of a camera's name, which becomes part of file names."""


class DriveError(ValueError):
    """A recording that cannot be read; the text names file, field and reason in one line."""


@dataclass(frozen=True, slots=True)
class RecordedObjects:
    """Objects and lights seen at one instant, map frame.

    Attributes:
        stamp_ns: When they were seen.
        boxes: Other road users; the ego is not among them.
        lights: Traffic lights with their states.
    """

    stamp_ns: int
    boxes: Boxes
    lights: Lights


@dataclass(frozen=True, slots=True)
class CameraImage:
    """One compressed image.

    Attributes:
        stamp_ns: Exposure time.
        jpeg: The file's bytes, never re-encoded.
    """

    stamp_ns: int
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class RecordedCamera:
    """A calibrated camera and its images in stamp order.

    Attributes:
        model: Calibration; its name is the camera's name.
        images: Images of the size `model` says.
    """

    model: CameraModel
    images: tuple[CameraImage, ...]


@dataclass(frozen=True, slots=True)
class Signal:
    """A code over time; each holds until the next.

    Attributes:
        stamps_ns: (n,) int64, increasing.
        codes: (n,) uint8.
    """

    stamps_ns: npt.NDArray[np.int64]
    codes: npt.NDArray[np.uint8]

    @classmethod
    def from_samples(cls, samples: Mapping[int, int]) -> Signal | None:
        """Builds a signal of codes by stamp in any order; None if there are none."""
        if not samples:
            return None
        stamps = sorted(samples)
        codes = np.array([samples[stamp] for stamp in stamps], dtype=np.uint8)
        return cls(np.array(stamps, dtype=np.int64), codes)

    def at(self, stamps_ns: npt.NDArray[np.int64], before: int) -> npt.NDArray[np.uint8]:
        """Returns the codes that hold at some stamps, `before` where none was given yet."""
        rows = np.searchsorted(self.stamps_ns, stamps_ns, side="right")
        return np.concatenate([[np.uint8(before)], self.codes])[rows]


@dataclass(frozen=True, slots=True)
class RecordedDrive:
    """One drive.

    Attributes:
        name: For people and logs.
        license: Terms of the recording, one line.
        map: Static map, or None where the recording has none.
        ego: Odometry in stamp order: rear axle on the ground.
        objects: Objects in stamp order; may be empty.
        cameras: Calibrated cameras; may be empty.
        route_m: (n, 3) route from map topology, or None where none can be made.
        route_source: Where the route came from, one line.
        vehicle: Outer dimensions of the recording vehicle; the nominal ego's where unknown.
        commands: Driving commands (`rap_planner.route.Command` codes), or None where unknown.
        engaged: 1 while the vehicle drove itself, 0 while a person did; None where unknown.
        left_out: What could not be used, a line for each kind.
    """

    name: str
    license: str
    map: VectorMap | None
    ego: tuple[EgoState, ...]
    objects: tuple[RecordedObjects, ...]
    cameras: tuple[RecordedCamera, ...]
    route_m: FloatArray | None
    route_source: str
    vehicle: VehicleDimensions = PACIFICA
    commands: Signal | None = None
    engaged: Signal | None = None
    left_out: tuple[str, ...] = ()

    @property
    def start_ns(self) -> int:
        """Stamp of the first thing that was recorded."""
        firsts = [self.ego[0].stamp_ns] if self.ego else []
        firsts += [step.stamp_ns for step in self.objects[:1]]
        firsts += [camera.images[0].stamp_ns for camera in self.cameras if camera.images]
        return min(firsts, default=START_NS)


def route_of_drive(
    vector_map: VectorMap | None, path_m: FloatArray
) -> tuple[FloatArray | None, str]:
    """Makes a route of the lanes a drive passed.

    Args:
        vector_map: Map with a lane graph, or None.
        path_m: (n, 3) x, y, yaw of the rear axle; only the sequence of lanes is used.

    Returns:
        The (n, 3) route, or None, and where it came from in words.
    """
    if vector_map is None or not vector_map.lanes:
        return None, "none: the recording has no lanes"
    lane_ids = route_along(vector_map.lanes, path_m)
    if lane_ids is None:
        return None, "none: the driven path does not follow the lanes of the map"
    return route_points(vector_map.lanes, lane_ids), "lane sequence of the map"


def checked_boxes(rows: npt.NDArray[np.float64], where: str) -> Boxes:
    """Builds boxes and refuses what no node could use.

    Args:
        rows: (N, 11) id, class, x, y, z, length, width, height, yaw, vx, vy.
        where: File and step, for the error message.

    Raises:
        DriveError: If a position is not finite, a size is too small or an id is repeated.
    """
    table = np.asarray(rows, dtype=np.float64).reshape(-1, 11)
    bad = np.flatnonzero(~np.isfinite(table[:, :9]).all(axis=1))
    if len(bad):
        raise DriveError(f"{where}: box {bad[0]}: expected finite numbers, got {table[bad[0], :9]}")
    thin = np.flatnonzero((table[:, 5:8] < MIN_SIZE_M).any(axis=1))
    if len(thin):
        raise DriveError(
            f"{where}: box {thin[0]}: size is {table[thin[0], 5:8]}, expected >= {MIN_SIZE_M} m"
        )
    if len(np.unique(table[:, 0])) != len(table):
        raise DriveError(f"{where}: object ids must be unique")
    return Boxes.from_rows(table)  # type: ignore[arg-type]


def checked_camera(camera: CameraModel, where: str) -> CameraModel:
    """Refuses a camera that nothing could be drawn for.

    Args:
        camera: As calibrated.
        where: File and field, for the error message.

    Raises:
        DriveError: If the name is no file name, or a size or focal length is not positive.
    """
    name = camera.name
    if not name or len(name) > MAX_NAME_LENGTH or not set(name) <= NAME_CHARACTERS:
        raise DriveError(f"{where}: camera name {name!r}: expected letters, digits, _ and -")
    numbers = (camera.fx, camera.fy, camera.cx, camera.cy)
    if not np.isfinite(numbers).all() or min(numbers[:2]) <= 0:
        raise DriveError(f"{where}: {name}: fx, fy, cx, cy are {numbers}, expected fx and fy > 0")
    if min(camera.width, camera.height) < 1:
        raise DriveError(f"{where}: {name}: size is {camera.width}x{camera.height} pixels")
    return camera
