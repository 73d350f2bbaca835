"""Speed of the camera simulator in CARLA's towns: 60 road users around the ego, 256x128 pixels.

Everything runs in one thread and after a warm-up; times are medians of process CPU time, because
other work on the machine changes wall time. JPEG is not included. Prints a line per town and then
one line of JSON.
"""

from __future__ import annotations

import json
import time

import cv2
import numpy as np

from rap_evaluation.camera_sim import CameraSimulator
from rap_evaluation.traffic.towns import town_path
from rap_raster.camera import CameraModel, optical_rotation
from rap_raster.frames import Pose
from rap_raster.maps.opendrive import load_opendrive
from rap_raster.maps.vector_map import Lane, VectorMap
from rap_raster.scene import Boxes, Lights, LightState, ObjectClass

TOWNS = ("Town01", "Town02", "Town03", "Town04", "Town05", "Town06", "Town07", "Town10HD")
PLACES, FRAMES, BOXES, RANGE_M = 3, 40, 60, 100.0
SIZES_M = {
    ObjectClass.VEHICLE: (4.6, 1.9, 1.5),
    ObjectClass.TRUCK: (8.0, 2.5, 3.2),
    ObjectClass.BUS: (12.0, 2.6, 3.2),
    ObjectClass.BICYCLE: (1.8, 0.6, 1.7),
    ObjectClass.PEDESTRIAN: (0.6, 0.6, 1.75),
}


def main() -> None:
    """Measures every town."""
    cv2.setNumThreads(1)
    milliseconds = {name: _town_ms(name) for name in TOWNS}
    for name, value in milliseconds.items():
        print(f"{name:9} {value:6.2f} ms  {1000 / value:4.0f} images/s")
    mean = float(np.mean(list(milliseconds.values())))
    print(json.dumps({"ms_per_image": round(mean, 2), "images_per_s": round(1000 / mean, 1)}))


def _town_ms(name: str) -> float:
    """Returns the CPU time per picture: the median of frames, the mean of places."""
    shapes, rng = load_opendrive(town_path(name)), np.random.default_rng(1)
    simulator = CameraSimulator(shapes.polylines, shapes.polygons)
    lanes = [lane for lane in shapes.lanes.values() if not lane.in_junction]
    places = [lanes[k] for k in rng.integers(len(lanes), size=PLACES)]
    return float(np.mean([_place_ms(simulator, shapes, lane, rng) for lane in places]))


def _place_ms(
    simulator: CameraSimulator, shapes: VectorMap, lane: Lane, rng: np.random.Generator
) -> float:
    (x, y, z), yaw = _on(lane, 0.5)
    boxes, lights = _traffic(shapes, np.array([x, y]), rng), _lights(shapes, np.array([x, y]))
    ego, camera, times = Pose(x, y, z, yaw), _camera(), []
    for frame in range(FRAMES):
        start = time.process_time()
        simulator.image(ego, boxes, lights, camera, seed=1, frame=frame)
        times.append(time.process_time() - start)
    return 1000.0 * float(np.median(times))


def _on(lane: Lane, share: float) -> tuple[tuple[float, float, float], float]:
    """Returns a position on a lane and its direction."""
    points = lane.centerline_m
    s_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    k = min(int(np.searchsorted(s_m, share * s_m[-1], side="right")), len(points) - 1) - 1
    x, y, z = (float(np.interp(share * s_m[-1], s_m, axis)) for axis in points.T)
    dx, dy = points[k + 1, :2] - points[k, :2]
    return (x, y, z), float(np.arctan2(dy, dx))


def _traffic(shapes: VectorMap, center_m: np.ndarray, rng: np.random.Generator) -> Boxes:
    """Puts road users on the lanes around."""
    near = [
        lane
        for lane in shapes.lanes.values()
        if np.linalg.norm(lane.centerline_m.mean(axis=0)[:2] - center_m) < RANGE_M
    ]
    rows: list[list[float]] = []
    while len(rows) < BOXES:
        (x, y, z), yaw = _on(near[int(rng.integers(len(near)))], float(rng.uniform()))
        code = list(SIZES_M)[int(rng.integers(len(SIZES_M)))]
        if np.hypot(x - center_m[0], y - center_m[1]) > 10.0:
            size = SIZES_M[code]
            rows.append([len(rows) + 1, code, x, y, z + 0.5 * size[2], *size, yaw, 0.0, 0.0])
    return Boxes.from_rows(rows)


def _lights(shapes: VectorMap, center_m: np.ndarray) -> Lights:
    near = [
        light
        for light in shapes.traffic_lights
        if np.linalg.norm(light.center_m[:2] - center_m) < RANGE_M
    ]
    return Lights(
        np.full(len(near), LightState.RED, np.uint8),
        np.array([light.center_m for light in near]).reshape(-1, 3),
        np.tile([0.3, 0.4, 1.0], (len(near), 1)),
        np.array([light.yaw_rad for light in near], np.float64),
    )


def _camera() -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = optical_rotation(0.0), (1.5, 0.0, 1.6)
    return CameraModel("front", 256, 128, 141.0, 141.0, 127.5, 63.5, pose)


if __name__ == "__main__":
    main()
