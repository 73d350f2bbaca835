"""`drive.rrd`: a replay for the Rerun viewer, to be walked through along the drive's time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rap_bringup.answers import ReplayResult
from rap_bringup.bag_reader import (
    RecordedMessage,
    ego_state,
    objects_of,
    read_map,
    read_messages,
)
from rap_bringup.bag_types import deserialized, raw_stamp_ns
from rap_bringup.birds_eye import CHOSEN, score_colors
from rap_bringup.instants import decode_image, path_of, proposals_of
from rap_bringup.recording import RECORDING_NAME
from rap_bringup.viewer_shapes import (
    LIFT_M,
    Rerun,
    agent_boxes,
    load_viewer,
    map_lines,
    rgb,
    vehicle_box,
)
from rap_raster.ego_history import EgoState
from rap_raster.frames import FloatArray
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes
from rap_raster.vehicle import PACIFICA

VIEWER_LOG_NAME = "drive.rrd"
TIMELINE = "drive_time"
MAP_MARGIN_M = 150.0
"""Farther from the drive nothing is ever drawn."""

ODOMETRY_PERIOD_NS = 100_000_000
"""The ego is shown ten times a second; odometry may come faster."""


def write_viewer_log(result: ReplayResult, progress: Callable[[float], None]) -> Path:
    """Writes the recording of a replay for the viewer.

    Args:
        result: A finished replay.
        progress: Told how far it is, 0..1.

    Returns:
        The file.

    Raises:
        ViewerError: If the viewer's package is not installed.
    """
    rerun = load_viewer(VIEWER_LOG_NAME)
    path = result.out / VIEWER_LOG_NAME
    rerun.init("rap", recording_id=result.bag.drive, spawn=False)
    rerun.save(str(path), default_blueprint=_blueprint(rerun, result))
    writer = _Writer(rerun, result)
    writer.log_static()
    topics = {"objects", "odometry", "rap/candidates", "rap/trajectory", *writer.image_topics}
    for item in read_messages(result.out / RECORDING_NAME, topics):
        writer.log(item)
        length_ns = max(1, result.bag.end_ns - result.bag.start_ns)
        progress(min(1.0, (item.stamp_ns - result.bag.start_ns) / length_ns))
    rerun.disconnect()
    return path


def _blueprint(rerun: Rerun, result: ReplayResult) -> Rerun:
    views = rerun.blueprint
    world = views.Spatial3DView(
        origin="/", name="drive", contents=["/map/**", "/ego/**", "/world/**"]
    )
    cameras = [views.Spatial2DView(origin=f"/camera/{n}", name=n) for n in result.slots.values()]
    speed = views.TimeSeriesView(origin="/plot", name="speed and latency")
    side = views.Vertical(*cameras, speed)
    return views.Blueprint(views.Horizontal(world, side, column_shares=[3, 1]))


class _Writer:
    """Turns recorded messages into viewer entities. Positions are relative to the first pose."""

    def __init__(self, rerun: Rerun, result: ReplayResult) -> None:
        self._rerun = rerun
        self._result = result
        self.image_topics = {
            result.bag.cameras[name].image_topic: name for name in result.slots.values()
        }
        self._ego_shown_ns = -ODOMETRY_PERIOD_NS
        first = next(iter(read_messages(result.out / RECORDING_NAME, {"odometry"})))
        state = _state(first)
        # 32-bit positions of the viewer are too coarse for map coordinates of kilometres.
        self._origin = np.array([state.x_m, state.y_m, state.z_m])
        self._ground_m = 0.0

    def log_static(self) -> None:
        """Logs the map and the axes once."""
        rerun = self._rerun
        rerun.log("/", rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        vector_map = read_map(self._result.bag)
        if vector_map is not None:
            self._log_map(vector_map)

    def log(self, item: RecordedMessage) -> None:
        """Logs one message at its place in drive time."""
        stamp_ns = raw_stamp_ns(item.raw)
        elapsed_s = (stamp_ns - self._result.bag.start_ns) * 1e-9
        self._rerun.set_time(TIMELINE, duration=elapsed_s)
        if item.topic == "odometry":
            self._log_ego(_state(item))
        elif item.topic == "objects":
            self._log_boxes(objects_of(item.raw).boxes)
        elif item.topic == "rap/candidates":
            self._log_proposals(item.raw)
        elif item.topic == "rap/trajectory":
            self._log_trajectory(item.raw)
        else:
            self._log_image(item)

    def _log_map(self, vector_map: VectorMap) -> None:
        reach_m = MAP_MARGIN_M + self._drive_reach_m()
        for name, lines in map_lines(self._rerun, vector_map, self._origin, reach_m).items():
            self._rerun.log(f"/map/{name}", lines, static=True)

    def _drive_reach_m(self) -> float:
        path = [_state(item) for item in read_messages(self._file(), {"odometry"})]
        places = np.array([(state.x_m, state.y_m) for state in path])
        return float(np.abs(places - self._origin[:2]).max())

    def _file(self) -> Path:
        return self._result.out / RECORDING_NAME

    def _log_ego(self, state: EgoState) -> None:
        rerun = self._rerun
        if state.stamp_ns - self._ego_shown_ns < ODOMETRY_PERIOD_NS:
            return
        self._ego_shown_ns = state.stamp_ns
        self._ground_m = state.z_m - self._origin[2]
        rerun.log("/ego/box", vehicle_box(rerun, PACIFICA, state.pose, self._origin))
        rerun.log("/plot/speed_mps", rerun.Scalars(state.vx_mps))

    def _log_boxes(self, boxes: Boxes) -> None:
        self._rerun.log("/world/objects", agent_boxes(self._rerun, boxes, self._origin))

    def _log_proposals(self, raw: bytes) -> None:
        rerun = self._rerun
        proposals = proposals_of(raw)
        strips = [self._path(poses[:, :2]) for poses in proposals.poses_m]
        colors = score_colors(proposals.scores)[:, ::-1]
        rerun.log("/world/proposals", rerun.LineStrips3D(strips, colors=colors, radii=[0.04]))
        latency_ms = self._result.answers.latencies_ms.get(raw_stamp_ns(raw))
        if latency_ms is not None:
            rerun.log("/plot/latency_ms", rerun.Scalars(latency_ms))

    def _log_trajectory(self, raw: bytes) -> None:
        rerun = self._rerun
        strip = self._path(path_of(raw))
        rerun.log(
            "/world/trajectory", rerun.LineStrips3D([strip], colors=[rgb(CHOSEN)], radii=[0.15])
        )

    def _path(self, points_m: FloatArray) -> FloatArray:
        local = points_m - self._origin[:2]
        return np.column_stack([local, np.full(len(local), self._ground_m + LIFT_M)])

    def _log_image(self, item: RecordedMessage) -> None:
        rerun = self._rerun
        name = self.image_topics[item.topic]
        camera = self._result.bag.cameras[name]
        if camera.compressed:
            content = deserialized(item.raw, "sensor_msgs/msg/CompressedImage")
            media = f"image/{'png' if 'png' in content.format.lower() else 'jpeg'}"
            image = rerun.EncodedImage(contents=content.data.tobytes(), media_type=media)
        else:
            image = rerun.Image(decode_image(item.raw, camera))
        rerun.log(f"/camera/{name}", image)


def _state(item: RecordedMessage) -> EgoState:
    return ego_state(deserialized(item.raw, "nav_msgs/msg/Odometry"))
