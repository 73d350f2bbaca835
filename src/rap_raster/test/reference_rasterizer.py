"""A slow, independent rasterizer in float64, to compare the fast one with.

Nothing is projected, clipped or triangulated by the code under test. Every pixel is a ray; a
triangle with camera-space vertices M (columns) is hit where the weights M^-1 d are all positive,
so geometry behind the camera needs no special case. Ground areas are met as planes with an
even-odd test, lines as the region between their mitre lines.
"""

from __future__ import annotations

import numpy as np

from rap_raster.camera import NEAR_M
from rap_raster.frames import inverse, transform_from_yaw, transform_points
from rap_raster.kernels import FAR_M, GROUND_TOLERANCE
from rap_raster.scene import LineKind


def pixel_rays(camera):
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    return np.stack(
        [(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones(x.shape)], -1
    )


def triangle_depth(corners, rays):
    """Returns depth along the optical axis per ray, inf where missed; corners (3, 3) in camera."""
    matrix = np.asarray(corners).T
    if abs(np.linalg.det(matrix)) < 1e-12:
        return np.full(rays.shape[:2], np.inf)
    weights = rays @ np.linalg.inv(matrix).T
    total = weights.sum(axis=-1)
    hit = np.all(weights >= 0, axis=-1) & (total > 0) & (total <= 1 / NEAR_M)
    depth = np.full(rays.shape[:2], np.inf)
    depth[hit] = 1 / total[hit]
    return np.where(depth <= FAR_M, depth, np.inf)


def box_faces_camera(center, size, yaw, camera_from_map):
    """Yields the corners (4, 3) of the faces seen from outside."""
    to_map = transform_from_yaw(yaw, center)
    half = np.asarray(size) / 2
    for axis, sign in [(0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)]:
        others = [k for k in range(3) if k != axis]
        corners = np.zeros((4, 3))
        corners[:, axis] = sign
        corners[:, others[0]] = [-1, 1, 1, -1]
        corners[:, others[1]] = [-1, -1, 1, 1]
        points = transform_points(camera_from_map @ to_map, corners * half)
        middle = transform_points(camera_from_map @ to_map, np.zeros((1, 3)))[0]
        outward = points.mean(axis=0) - middle
        if outward @ points[0] < 0:
            yield points


def mitred_quads(points, half_width_m, closed):
    """Returns (S, 4, 3) quads: left start, right start, right end, left end."""
    points = np.asarray(points, float)
    if closed:
        points = np.vstack([points, points[:1]])
    direction = np.diff(points[:, :2], axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    before = np.vstack([normal[-1:] if closed else normal[:1], normal])
    after = np.vstack([normal, normal[:1] if closed else normal[-1:]])
    # The tip of a mitre lies half a width from both lines: solve n1.m = n2.m = half width.
    offset = before + after
    offset *= (half_width_m / np.sum(offset * before, axis=1))[:, None]
    offset = np.hstack([offset, np.zeros((len(offset), 1))])
    left, right = points + offset, points - offset
    return np.stack([left[:-1], right[:-1], right[1:], left[1:]], axis=1)


def _plane_depth(polygon, rays, camera_from_map):
    """Depth of a planar polygon by ray-plane intersection and an even-odd test in the map's xy."""
    origin = inverse(camera_from_map)[:3, 3]
    directions = rays @ camera_from_map[:3, :3]  # the inverse rotation, applied to rows
    base = polygon.mean(axis=0)
    _, _, axes = np.linalg.svd(polygon - base)
    normal = axes[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = ((base - origin) @ normal) / (directions @ normal)
        hit = origin + depth[..., None] * directions
        inside = np.zeros(depth.shape, bool)
        for (ax, ay, _), (bx, by, _) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            crosses = (ay > hit[..., 1]) != (by > hit[..., 1])
            inside ^= crosses & (hit[..., 0] < (bx - ax) * (hit[..., 1] - ay) / (by - ay) + ax)
    valid = inside & (depth >= NEAR_M) & (depth <= FAR_M)
    return np.where(valid, depth, np.inf)


def _ground_depths(scene, style, rays, camera_from_map):
    """Yields (code, depth) of every ground primitive, bottom layer first."""
    for layer in style.ground:
        is_line = layer.code in set(LineKind)
        shapes = scene.polylines if is_line else scene.polygons
        for index in np.flatnonzero(shapes.kinds == layer.code):
            points = shapes[int(index)]
            if layer.filled:
                yield layer.code, _plane_depth(points, rays, camera_from_map)
                continue
            for quad in mitred_quads(points, layer.width_m / 2, closed=not is_line):
                corners = transform_points(camera_from_map, quad)
                first = triangle_depth(corners[[0, 1, 2]], rays)
                second = triangle_depth(corners[[0, 2, 3]], rays)
                yield layer.code, np.minimum(first, second)


def _solids(scene):
    for i in range(len(scene.boxes)):
        boxes = scene.boxes
        shape = (boxes.centers_m[i], boxes.sizes_m[i], boxes.yaws_rad[i])
        yield int(boxes.classes[i]), int(boxes.ids[i]), shape
    for i in range(len(scene.lights)):
        lights = scene.lights
        shape = (lights.centers_m[i], lights.sizes_m[i], lights.yaws_rad[i])
        yield int(lights.states[i]), 0, shape


def render_reference(scene, style, camera, rays=None):
    """Returns class, instance and depth, all (H, W); `rays` (H, W, 3) replace the pinhole's."""
    rays = pixel_rays(camera) if rays is None else rays
    camera_from_map = inverse(camera.ego_from_camera) @ inverse(scene.ego.map_from_ego())
    codes = np.zeros(rays.shape[:2], np.uint8)
    ids = np.zeros(rays.shape[:2], np.int32)
    depth = np.full(rays.shape[:2], np.inf)
    for code, ground in _ground_depths(scene, style, rays, camera_from_map):
        wins = np.isfinite(ground) & (ground * (1 - GROUND_TOLERANCE) <= depth)
        codes[wins], depth[wins] = code, ground[wins]
    solid = np.full(rays.shape[:2], np.inf)
    is_ground = np.isfinite(depth)
    for code, box_id, (center, size, yaw) in _solids(scene):
        for corners in box_faces_camera(center, size, yaw, camera_from_map):
            hit = np.minimum(
                triangle_depth(corners[[0, 1, 2]], rays), triangle_depth(corners[[0, 2, 3]], rays)
            )
            over_ground = ~is_ground | (hit * (1 - GROUND_TOLERANCE) <= depth)
            wins = np.isfinite(hit) & (hit < solid) & over_ground
            solid[wins] = hit[wins]
            codes[wins], ids[wins] = code, box_id
    return codes, ids, np.where(np.isfinite(solid), solid, depth)
