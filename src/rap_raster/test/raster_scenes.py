"""Scenes and cameras for the tests of the rasterizer, and its comparison with the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import reference_rasterizer as reference

from rap_raster.camera import CameraModel, optical_rotation
from rap_raster.frames import Pose
from rap_raster.rasterizer import CHANNELS, build_geometry, render
from rap_raster.scene import Boxes, Lights, LightState, LineKind, PolygonKind, Scene, Shapes
from rap_raster.styles import load_style

EGO = Pose(0.0, 0.0, 0.0, 0.0)


def exact_style(name="semantic"):
    """The reference knows no minimum pixel width, so it is switched off."""
    style = load_style(name)
    return replace(style, ground=replace(style.ground, min_px=0.0 * style.ground.min_px))


def make_camera(*, yaw=0.0, pitch=0.05, focal=80.0, at=(1.5, 0.0, 1.6)):
    width, height = 160, 90
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = optical_rotation(yaw, pitch), at
    center = ((width - 1) / 2 + 0.3, (height - 1) / 2 - 0.2)
    return CameraModel("front", width, height, focal, focal, *center, pose)


def make_scene(boxes=(), lines=(), areas=(), lights=None, ego=EGO):
    return Scene(
        ego=ego,
        boxes=Boxes.from_rows(list(boxes)),
        polylines=Shapes.from_list(list(lines)),
        polygons=Shapes.from_list(list(areas)),
        lights=lights or Lights.empty(),
    )


def car(box_id, x, y, yaw=0.0, *, z=0.8, size=(4.6, 1.9, 1.6), code=1, speed=0.0):
    return [box_id, code, x, y, z, *size, yaw, speed * np.cos(yaw), speed * np.sin(yaw)]


def light(x, y, z=1.0, state=LightState.RED, size=(0.5, 0.5, 1.0)):
    return Lights(
        np.array([state], np.uint8), np.array([[x, y, z]]), np.array([size]), np.array([0.3])
    )


def random_scene(seed):
    """Boxes that intersect and cross the near plane, lines, concave areas, lights."""
    rng = np.random.default_rng(seed)
    boxes = [
        car(
            i + 1,
            rng.uniform(8, 60) * rng.choice([-1, 1], p=[0.3, 0.7]),
            rng.uniform(-15, 15),
            rng.uniform(-np.pi, np.pi),
            z=rng.uniform(0.6, 1.2),
            size=rng.uniform(0.5, 8.0, 3),
            code=int(rng.integers(1, 10)),
            speed=(0.0, 0.8, 4.0, 9.5, 40.0, np.nan)[i % 6],
        )
        for i in range(25)
    ]
    boxes.append(car(90, 1.0, 1.8))  # alongside, crosses the near plane
    boxes.append(car(91, -20.0, 0.0))  # behind
    boxes.append(car(92, 1.5, 0.0, z=1.6, size=(9.0, 9.0, 9.0)))  # encloses the camera
    lines = []
    for code in LineKind:
        turn = np.cumsum(rng.normal(0, 0.1, 20)) + rng.uniform(-np.pi, np.pi)
        step = rng.uniform(2, 6) * np.stack([np.cos(turn), np.sin(turn), np.zeros(20)], axis=1)
        start = np.append(rng.uniform(-20, 20, 2), 0.0)
        lines.append((code, start + np.cumsum(step, axis=0)))
    star = np.linspace(0, 2 * np.pi, 11)[:-1]
    areas = []
    for code in PolygonKind:
        radius = rng.uniform(3, 15, 10)
        ring = np.stack([radius * np.cos(star), radius * np.sin(star), np.zeros(10)], axis=1)
        direction = 1 if rng.random() < 0.5 else -1
        ring += np.array([rng.uniform(-5, 25), rng.uniform(-8, 8), 0.0])
        areas.append((code, ring[::direction]))
    lights = Lights(
        np.array([30, 31, 32, 33], np.uint8),
        np.column_stack([rng.uniform(5, 40, 4), rng.uniform(-6, 6, 4), rng.uniform(1, 5, 4)]),
        np.tile([0.5, 0.5, 1.0], (4, 1)),
        rng.uniform(-3, 3, 4),
    )
    return make_scene(boxes, lines, areas, lights)


def moved(scene, offset, yaw):
    """The same scene elsewhere in the map: everything turned about the origin, then shifted."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])

    def move(points):
        return points @ turn.T + offset

    ego = Pose(*move(np.array([scene.ego.x_m, scene.ego.y_m, scene.ego.z_m])), yaw)
    boxes, lights = scene.boxes, scene.lights
    return Scene(
        ego=ego,
        boxes=replace(boxes, centers_m=move(boxes.centers_m), yaws_rad=boxes.yaws_rad + yaw),
        polylines=replace(scene.polylines, points_m=move(scene.polylines.points_m)),
        polygons=replace(scene.polygons, points_m=move(scene.polygons.points_m)),
        lights=replace(lights, centers_m=move(lights.centers_m), yaws_rad=lights.yaws_rad + yaw),
    )


def sloping(scene, rise, bend):
    """The scene on hills: everything is lifted by a smooth function of its position."""

    def lifted(points):
        x, y = points[:, 0], points[:, 1]
        lift = rise * x + bend * np.sin(0.1 * x + 0.07 * y)
        return points + np.column_stack([0 * x, 0 * x, lift])

    return replace(
        scene,
        boxes=replace(scene.boxes, centers_m=lifted(scene.boxes.centers_m)),
        lights=replace(scene.lights, centers_m=lifted(scene.lights.centers_m)),
        polylines=replace(scene.polylines, points_m=lifted(scene.polylines.points_m)),
        # Only planar areas: how a bent one is cut into triangles is not the reference's business.
        polygons=Shapes.from_list([]),
    )


HARD_CASES = {
    "box across the near plane": make_scene([car(5, 1.0, 1.3)]),
    "box behind": make_scene([car(5, -8.0, 0.0)]),
    "enclosing box": make_scene([car(5, 1.0, 0.0, z=1.0, size=(6, 3, 3)), car(6, 12, 0)]),
    "intersecting boxes": make_scene([car(5, 10, 0, 0.4), car(6, 11, 0.5, -0.7)]),
    "light before a car": make_scene([car(5, 15, 0)], lights=light(9.0, 0.2)),
    "light behind a car": make_scene([car(5, 9, 0)], lights=light(15.0, 0.2)),
    "crosswalk under the ego": make_scene(
        areas=[(20, [[-3, -4, 0], [6, -4, 0], [6, 4, 0], [-3, 4, 0]])]
    ),
    "cyclic overlap": make_scene(
        [
            car(1, 10, 0.0, 0.0, z=1.2, size=(1, 6, 0.4)),
            car(2, 9.5, 1.5, 1.2, z=1.3, size=(4, 0.5, 1)),
            car(3, 9.5, -1.5, -1.2, z=1.1, size=(4, 0.5, 1)),
        ]
    ),
    "ramp with a line on it": make_scene(
        [car(4, 30, 0, z=4.0)],
        lines=[(10, [[5, 1, 0], [40, 1, 4]])],
        areas=[(23, [[5, -4, 0], [40, -4, 4], [40, 4, 4], [5, 4, 0]])],
    ),
}


def assert_same(scene, camera, style, allowed=2, draw=render):
    """Compares all channels; only ties of a pixel centre with an edge may differ."""
    images = draw(build_geometry(scene, style), camera, tuple(CHANNELS))
    codes, ids, depth, rgb = reference.render_reference(scene, style, camera)
    wrong = (images["class"] != codes) | (images["instance"] != ids)
    assert wrong.sum() <= allowed
    both = np.isfinite(depth) & np.isfinite(images["depth"]) & ~wrong
    # A ribbon on a slope is twisted in its bends by some millimetres: it has no exact surface.
    off = np.abs(images["depth"][both] - depth[both]) > np.maximum(1e-3 * depth[both], 5e-3)
    # The same object can be hit on another face in a tie, hence a count and not a maximum.
    assert off.sum() <= allowed
    assert (np.isfinite(depth) != np.isfinite(images["depth"])).sum() <= allowed
    # A mean or a depth in other order of summation may fall to the other side of a whole level.
    assert (np.abs(images["rgb"] - rgb).max(axis=-1) > 1).sum() <= allowed
    return images
