"""What to draw over which camera image: recordings as scenes beside the images of the same instant.

Nothing is drawn here; see `rap_bringup.overlay`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rap_bringup.drives.dgp import read_dgp
from rap_bringup.drives.nuscenes import read_nuscenes
from rap_bringup.drives.nuscenes_keyframe import Keyframe, read_keyframe
from rap_bringup.drives.recorded_drive import DriveError, RecordedCamera, RecordedDrive
from rap_bringup.instants import WHOLE_DRIVE_S
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoHistory
from rap_raster.frames import Pose, wrap_angle
from rap_raster.maps.vector_map import shapes_near
from rap_raster.scene import Lights, Scene, Shapes

MAP_RADIUS_M = 130.0
"""Nothing farther than 120 m along the optical axis is drawn."""

MAX_POSE_GAP_M = 1.0
MAX_POSE_GAP_RAD = 0.05
"""Stamps of keyframes and steps differ by up to 50 ms, in which a car at 20 m/s drives 1 m."""

MAX_STAMP_GAP_NS = 50_000_000
"""An image this far from the boxes shows another instant: half a period at 10 Hz."""


@dataclass(frozen=True, slots=True)
class OverlayView:
    """One camera image and what is known about what it shows.

    Attributes:
        camera: Calibration in the frame of the scene's ego.
        scene: The instant, map frame.
        jpeg: The image's bytes.
        where: The image in words, for errors.
    """

    camera: CameraModel
    scene: Scene
    jpeg: bytes
    where: str


@dataclass(frozen=True, slots=True)
class OverlayFrame:
    """All cameras at one instant.

    Attributes:
        name: Of the folder its pictures go to; empty where the recording has one frame only.
        views: One per camera.
    """

    name: str
    views: tuple[OverlayView, ...]


def nuscenes_frames(folder: Path, scene_path: Path) -> list[OverlayFrame]:
    """Reads a nuScenes keyframe and the map around it.

    Args:
        folder: The keyframe: `info.json` and images.
        scene_path: The `scene-XXXX.npz` it is from, for the map. Both use the global frame of
            nuScenes, so nothing is left to register; that they belong together is checked.

    Raises:
        DriveError: If either cannot be read or the scene does not pass the keyframe's ego pose.
    """
    keyframe = read_keyframe(folder)
    drive = read_nuscenes(scene_path)
    _check_passes(drive, keyframe.ego, f"{scene_path}: state[0]", folder)
    scene = _keyframe_scene(keyframe, drive)
    views = [
        OverlayView(camera.model, scene, camera.images[0].jpeg, f"{folder}: {camera.model.name}")
        for camera in keyframe.cameras
    ]
    return [OverlayFrame("", tuple(views))]


def _check_passes(drive: RecordedDrive, ego: Pose, where: str, folder: Path) -> None:
    places = np.array([state.planar for state in drive.ego])
    gaps_m = np.hypot(places[:, 0] - ego.x_m, places[:, 1] - ego.y_m)
    nearest = int(np.argmin(gaps_m))
    turn_rad = float(np.abs(wrap_angle(places[nearest, 2] - ego.yaw_rad)))
    if gaps_m[nearest] > MAX_POSE_GAP_M or turn_rad > MAX_POSE_GAP_RAD:
        raise DriveError(
            f"{where}: comes no closer than {gaps_m[nearest]:.1f} m and {turn_rad:.2f} rad to "
            f"frame.ego2global of {folder}, expected {MAX_POSE_GAP_M} m and {MAX_POSE_GAP_RAD} rad"
        )


def _keyframe_scene(keyframe: Keyframe, drive: RecordedDrive) -> Scene:
    ego = keyframe.ego
    lines = areas = Shapes.from_list([])
    if drive.map is not None:
        lines, areas = (_ground(s, ego) for s in (drive.map.polylines, drive.map.polygons))
    return Scene(ego, keyframe.boxes, lines, areas, Lights.empty())


def _ground(shapes: Shapes, ego: Pose) -> Shapes:
    """Lays the map near the ego on the horizontal plane through its wheels.

    The maps have no heights. The plane is level and does not lean with the body: measured on
    scene-0061, it meets lane paint up to 30 m ahead and the near kerbs within 0.2 m, while the
    plane that leans with the vehicle (1.2 degrees) misses the left kerb by 0.4 m. Where the road
    rises or falls the map is off: 0.7 m at a kerb 13 m to the side that lies 0.08 m lower. Boxes
    that stand below the plane lose their feet in it.
    """
    near = shapes_near(shapes, np.array([ego.x_m, ego.y_m]), MAP_RADIUS_M)
    points = np.column_stack([near.points_m[:, :2], np.full(len(near.points_m), ego.z_m)])
    return Shapes(near.kinds, near.offsets, points)


def dgp_frames(folder: Path) -> list[OverlayFrame]:
    """Reads a DGP scene: every set of boxes with the images of the same instant.

    Args:
        folder: A scene folder, see `rap_bringup.drives.dgp.read_dgp`.

    Raises:
        DriveError: If it cannot be read or no image belongs to any set of boxes.
    """
    drive = read_dgp(folder)
    history = EgoHistory(max_age_s=WHOLE_DRIVE_S)
    for state in drive.ego:
        history.add(state)
    frames = []
    for index in range(len(drive.objects)):
        views = [_dgp_view(folder, drive, history, camera, index) for camera in drive.cameras]
        seen = tuple(view for view in views if view is not None)
        if seen:
            frames.append(OverlayFrame(f"frame_{index:03d}", seen))
    if not frames:
        raise DriveError(f"{folder}: no image within {MAX_STAMP_GAP_NS / 1e6:.0f} ms of any boxes")
    return frames


def _dgp_view(
    folder: Path, drive: RecordedDrive, history: EgoHistory, camera: RecordedCamera, index: int
) -> OverlayView | None:
    """Returns one camera's view of one set of boxes, or None where it has no image of them.

    The ego is where it was at the exposure, milliseconds away from the boxes.
    """
    objects = drive.objects[index]
    image = min(camera.images, key=lambda image: abs(image.stamp_ns - objects.stamp_ns))
    ego = history.at(image.stamp_ns)
    if ego is None or abs(image.stamp_ns - objects.stamp_ns) > MAX_STAMP_GAP_NS:
        return None
    nothing = Shapes.from_list([])
    scene = Scene(ego.pose, objects.boxes, nothing, nothing, objects.lights)
    where = f"{folder}: {camera.model.name}, frame {index}"
    return OverlayView(camera.model, scene, image.jpeg, where)
