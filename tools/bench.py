"""Speed of the rasterizer on a synthetic junction: times, growth, batches, lenses, cold start.

Everything runs in one thread and after a warm-up; times are medians of thread CPU time, because
other work on the machine changes wall time. Prints a table for people and then one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rap_raster.camera import CameraModel, Distortion, optical_rotation
from rap_raster.frames import FloatArray, Pose
from rap_raster.geometry import Geometry, build_geometry, place
from rap_raster.ground import build_ground
from rap_raster.rasterizer import CHANNELS, render, render_batch
from rap_raster.scene import Boxes, Lights, LightState, LineKind, PolygonKind, Scene, Shapes
from rap_raster.styles import load_style

SIZES = ((1920, 1080), (960, 540), (768, 448), (512, 256))
REPEATS = 40
LENSES = {
    "plumb_bob": Distortion("plumb_bob", (-0.356, 0.173, 1e-3, -2e-3, -0.05)),
    "rational_polynomial": Distortion(
        "rational_polynomial", (0.8, -0.1, 1e-3, 2e-3, 0.02, 1.1, 0.1, -0.01)
    ),
    "equidistant": Distortion("equidistant", (0.02, -0.01, 0.003, -0.0005)),
}
FIRST_IMAGE = """
from pathlib import Path
from rap_raster.rasterizer import build_geometry, render
from rap_raster.scene_json import load_scene
from rap_raster.styles import load_style
scene, cameras = load_scene(Path("docs/examples/scene.json"))
render(build_geometry(scene, load_style("rap")), cameras[0].resized(512, 256))
"""


@dataclass(frozen=True)
class Size:
    """How large a scene is: lines, points per line, boxes."""

    lines: int
    points: int
    boxes: int


BASE = Size(lines=100, points=23, boxes=60)
LARGER = {
    "14 times the lines": Size(lines=1400, points=23, boxes=60),
    "14 times the points": Size(lines=100, points=312, boxes=60),
}


def main() -> None:
    """Measures and prints everything."""
    scene, style = junction(BASE), load_style("rap")
    base = build_geometry(scene, style)
    results = {
        "build_ms": median_ms(lambda: build_geometry(scene, style)),
        "ms_per_frame": frames(base),
        "growth": growth(base),
        "batch": batches(scene),
        "lens": lenses(base),
        "first_image_s": first_image_s(),
    }
    print_table(results)
    print(json.dumps(results))


def junction(size: Size) -> Scene:
    """Makes two crossing roads with traffic on level ground, the same at every call."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(size.lines):
        along = np.linspace(-150.0, 150.0, size.points)
        offset = rng.uniform(-60.0, 60.0) + 4.0 * np.sin(along / rng.uniform(30.0, 90.0))
        x, y = (along, offset) if i % 2 else (offset, along)
        kind = LineKind.ROAD_BOUNDARY if i % 10 < 3 else LineKind.LANE_BOUNDARY
        lines.append((kind, np.column_stack([x, y, 0.0 * x])))
    crosswalks = [
        (PolygonKind.CROSSWALK, _rectangle(rng.uniform(-50, 50), rng.uniform(-50, 50)))
        for _ in range(8)
    ]
    return Scene(
        ego=Pose(0.0, 0.0, 0.0, 0.0),
        boxes=Boxes.from_rows([_car(rng, i + 1, size.boxes) for i in range(size.boxes)]),
        polylines=Shapes.from_list(lines),
        polygons=Shapes.from_list(crosswalks),
        lights=Lights(
            np.full(8, LightState.RED, np.uint8),
            np.column_stack([rng.uniform(-60, 60, (8, 2)), np.full(8, 5.5)]),
            np.tile([0.5, 0.5, 1.0], (8, 1)),
            np.zeros(8),
        ),
    )


def _rectangle(x: float, y: float) -> FloatArray:
    corners = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [4.0, 9.0, 0.0], [0.0, 9.0, 0.0]])
    shifted: FloatArray = corners + np.array([x, y, 0.0])
    return shifted


def _car(rng: np.random.Generator, number: int, count: int) -> list[float]:
    # On a spiral around the ego, so that none stand in each other.
    angle, radius = 2.4 * number, 8.0 + 80.0 * np.sqrt(number / count)
    length, width, height = 4.6, 1.9, rng.uniform(1.4, 1.9)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return [number, 1, x, y, height / 2, length, width, height, rng.uniform(-3, 3), 0, 0]


def rig(width: int, height: int) -> list[CameraModel]:
    """Three cameras that together see 230 degrees."""
    cameras = []
    views = (("front", 0.0, 1545.0), ("left", 0.96, 806.0), ("right", -0.96, 554.0))
    for name, yaw, focal in views:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = optical_rotation(yaw), (1.6, 0.0, 1.5)
        camera = CameraModel(name, 1920, 1080, focal, focal, 960.0, 540.0, pose)
        cameras.append(camera.resized(width, height))
    return cameras


def median_ms(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Returns the median thread CPU time of some work, after one call that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return 1e3 * float(np.median(times))


def frame_ms(geometry: Geometry, cameras: list[CameraModel], channels: tuple[str, ...]) -> float:
    """Returns the mean over the cameras of their median times."""
    buffers = [render(geometry, camera, channels) for camera in cameras]
    times = []
    for camera, out in zip(cameras, buffers, strict=True):
        times.append(median_ms(partial(render, geometry, camera, channels, out)))
    return float(np.mean(times))


def frames(geometry: Geometry) -> dict[str, dict[str, float]]:
    """Times each size, rgb alone and all four channels."""
    return {
        f"{width}x{height}": {
            "rgb": frame_ms(geometry, rig(width, height), ("rgb",)),
            "all": frame_ms(geometry, rig(width, height), tuple(CHANNELS)),
        }
        for width, height in SIZES
    }


def growth(base: Geometry) -> dict[str, float]:
    """Returns how many times longer larger scenes and larger images take (rgb)."""
    small, large = rig(512, 256), rig(1920, 1080)
    rigs = {"512x256": small, "1920x1080": large}
    base_ms = {name: frame_ms(base, cameras, ("rgb",)) for name, cameras in rigs.items()}
    result = {"512x256 to 1920x1080": base_ms["1920x1080"] / base_ms["512x256"]}
    for title, size in LARGER.items():
        geometry = build_geometry(junction(size), load_style("rap"))
        for name, cameras in rigs.items():
            result[f"{title}, {name}"] = frame_ms(geometry, cameras, ("rgb",)) / base_ms[name]
    return result


def batches(scene: Scene) -> dict[str, float]:
    """Returns three-camera samples per second at 512x256, building each scene included."""
    style, cameras, count = load_style("rap"), rig(512, 256), 32
    ground = build_ground(scene.polylines, scene.polygons, style)
    out = {"rgb": np.empty((count, 3, 256, 512, 3), np.uint8)}

    def from_scratch() -> None:
        render_batch([build_geometry(scene, style) for _ in range(count)], [cameras], out=out)

    def on_shared_ground() -> None:
        there = (scene.ego, scene.boxes, scene.lights, style)
        render_batch([place(ground, *there) for _ in range(count)], [cameras], out=out)

    return {
        "samples_per_s": 1e3 * count / median_ms(from_scratch, 10),
        "samples_per_s_shared_ground": 1e3 * count / median_ms(on_shared_ground, 10),
    }


def lenses(geometry: Geometry) -> dict[str, float]:
    """Returns how many times longer a lens takes than the same camera without (rgb, 512x256)."""
    result = {}
    for name, distortion in LENSES.items():
        cameras = rig(512, 256)
        if name == "equidistant":
            cameras = [replace(c, fx=0.5 * c.fx, fy=0.5 * c.fy) for c in cameras]
        bent = [replace(camera, distortion=distortion) for camera in cameras]
        result[name] = frame_ms(geometry, bent, ("rgb",)) / frame_ms(geometry, cameras, ("rgb",))
    return result


def first_image_s() -> float:
    """Returns the wall time from the start of a process to its first image; median of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", FIRST_IMAGE], check=True)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def print_table(results: dict[str, object]) -> None:
    """Prints the figures for people."""
    for title, values in results.items():
        if not isinstance(values, dict):
            print(f"{title}: {values:.3f}")
            continue
        print(f"{title}:")
        for name, value in values.items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            print(f"  {name:32}", *(f"{key} {number:.3f}" for key, number in parts))


if __name__ == "__main__":
    main()
