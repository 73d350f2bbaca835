"""A slow, independent rasterizer in float64, to compare the fast one with.

Nothing is projected, clipped, ordered or triangulated by the code under test. Every pixel is a ray;
a triangle with camera-space vertices M (columns) is hit where the weights M^-1 d are all positive,
so geometry behind the camera needs no special case. Ground areas are met as planes with an
even-odd test, lines as the region between their mitre lines. Everything is compared by depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_raster.camera import NEAR_M
from rap_raster.frames import inverse, transform_from_yaw, transform_points
from rap_raster.ground import MITRE_LIMIT
from rap_raster.polygons import SINK_M
from rap_raster.projection import FAR_M
from rap_raster.styles import FADE_NONE, FADE_PIXEL


@dataclass
class Surface:
    """What one primitive shows: depth per pixel, its plane, and its colour."""

    depth: np.ndarray
    corners: np.ndarray  # (n, 3) camera space
    code: int
    color: np.ndarray
    fade: int
    layer: int
    box_id: int = 0

    def colors(self):
        """(H, W, 3) colour per pixel, cut off to whole levels as published."""
        if self.fade == FADE_NONE:
            factor = np.ones_like(self.depth)
        elif self.fade == FADE_PIXEL:
            factor = 1 - np.where(np.isfinite(self.depth), self.depth, FAR_M) / FAR_M
        else:
            mean = np.clip(self.corners[:, 2], 0, FAR_M).mean()
            factor = np.full_like(self.depth, (FAR_M - mean) / FAR_M)
        return np.floor(factor[..., None] * self.color + 1e-9)


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


def quad_depth(corners, rays):
    return np.minimum(
        triangle_depth(corners[[0, 1, 2]], rays), triangle_depth(corners[[0, 2, 3]], rays)
    )


def box_faces_camera(center, size, yaw, camera_from_map):
    """Yields index and corners (4, 3) of the faces seen from outside: front, rear, left, ..."""
    to_map = transform_from_yaw(yaw, center)
    half = np.asarray(size) / 2
    for index, (axis, sign) in enumerate([(0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)]):
        others = [k for k in range(3) if k != axis]
        corners = np.zeros((4, 3))
        corners[:, axis] = sign
        corners[:, others[0]] = [-1, 1, 1, -1]
        corners[:, others[1]] = [-1, -1, 1, 1]
        points = transform_points(camera_from_map @ to_map, corners * half)
        middle = transform_points(camera_from_map @ to_map, np.zeros((1, 3)))[0]
        outward = points.mean(axis=0) - middle
        if outward @ points[0] < 0:
            yield index, points


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
    with np.errstate(divide="ignore", invalid="ignore"):
        mitre = before + after
        mitre *= (half_width_m / np.sum(mitre * before, axis=1))[:, None]
        sharp = ~(np.linalg.norm(mitre, axis=1) <= MITRE_LIMIT * half_width_m)
    start = np.where(sharp[:-1, None], half_width_m * normal, mitre[:-1])
    end = np.where(sharp[1:, None], half_width_m * normal, mitre[1:])
    start, end = (np.hstack([offset, np.zeros((len(normal), 1))]) for offset in (start, end))
    a, b = points[:-1], points[1:]
    return np.stack([a + start, a - start, b - end, b + end], axis=1)


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


def _ground(scene, style, rays, camera_from_map):
    """Yields the surface of every ground primitive, bottom layer first."""
    look = style.ground
    for layer, code in enumerate(look.codes):
        shapes = scene.polygons if look.of_areas[layer] else scene.polylines
        paint = (int(code), look.colors[layer].astype(float), int(look.fades[layer]), layer)
        for index in np.flatnonzero(shapes.kinds == code):
            points = shapes[int(index)]
            if look.filled[layer]:
                depth = _plane_depth(points, rays, camera_from_map)
                yield Surface(depth, transform_points(camera_from_map, points), *paint)
                continue
            half_width = look.widths_m[layer] / 2
            for quad in mitred_quads(points, half_width, closed=bool(look.of_areas[layer])):
                corners = transform_points(camera_from_map, quad)
                yield Surface(quad_depth(corners, rays), corners, *paint)


def _tinted(colors, velocity_mps, style):
    tint, speed_mps = style.speed_tint, np.linalg.norm(velocity_mps)
    share = 0.0 if np.isnan(speed_mps) else tint.share * min(speed_mps / tint.full_mps, 1.0)
    return np.round((1.0 - share) * colors + share * tint.color)


def _solids(scene, style, rays, camera_from_map):
    boxes, lights = scene.boxes, scene.lights
    standing = np.linalg.norm(boxes.velocities_mps, axis=1) < 1.0
    driven = [code in {1, 2, 3} for code in boxes.classes]
    box_looks = np.where(
        (standing & np.array(driven, bool))[:, None, None],
        style.braking_colors[boxes.classes],
        style.box_colors[boxes.classes],
    )
    box_looks = [
        _tinted(*look, style) for look in zip(box_looks, boxes.velocities_mps, strict=True)
    ]
    light_looks = style.light_colors[lights.states]
    for solids, codes, ids, looks, fade in (
        (boxes, boxes.classes, boxes.ids, box_looks, style.box_fade),
        (lights, lights.states, [0] * len(lights), light_looks, style.light_fade),
    ):
        for i in range(len(solids)):
            shape = (solids.centers_m[i], solids.sizes_m[i], solids.yaws_rad[i])
            for face, corners in box_faces_camera(*shape, camera_from_map):
                color = looks[i][face].astype(float)
                depth = quad_depth(corners, rays)
                yield Surface(depth, corners, int(codes[i]), color, fade, -1, int(ids[i]))


def _hides(ground, rays, depth):
    """True where ground hides what lies at `depth`: more than SINK_M beyond the ground's plane."""
    a, b, c = ground.corners[[0, 1, 2]]
    normal = np.cross(b - a, c - a)
    if np.linalg.norm(normal) < 1e-12:
        return np.zeros(depth.shape, bool)
    normal /= np.linalg.norm(normal)
    normal *= np.sign(a @ normal) or 1.0  # pointing away from the camera, which is the origin
    with np.errstate(invalid="ignore"):
        beyond = (rays * depth[..., None] - a) @ normal
    return np.isfinite(ground.depth) & np.isfinite(depth) & (beyond > SINK_M)


def render_reference(scene, style, camera, rays=None):
    """Returns class, instance, depth and rgb; `rays` (H, W, 3) replace the pinhole's."""
    rays = pixel_rays(camera) if rays is None else rays
    camera_from_map = inverse(camera.ego_from_camera) @ inverse(scene.ego.map_from_ego())
    codes = np.zeros(rays.shape[:2], np.uint8)
    ids = np.zeros(rays.shape[:2], np.int32)
    depth = np.full(rays.shape[:2], np.inf)
    rgb = np.zeros((*rays.shape[:2], 3))
    shown = np.full(rays.shape[:2], -1)
    ground = list(_ground(scene, style, rays, camera_from_map))
    solid_depth = np.full(rays.shape[:2], np.inf)

    def show(surface, wins):
        codes[wins], ids[wins] = surface.code, surface.box_id
        depth[wins], rgb[wins] = surface.depth[wins], surface.colors()[wins]

    def over_ground(surface):
        free = np.isfinite(surface.depth)
        for index in np.unique(shown[free]):
            if index < 0:
                continue
            if ground[index].layer == surface.layer:
                hidden = surface.depth > ground[index].depth * (1 + 1e-12)
            else:
                hidden = _hides(ground[index], rays, surface.depth)
            free &= ~((shown == index) & hidden)
        return free

    for index, surface in enumerate(ground):
        wins = over_ground(surface)
        show(surface, wins)
        shown[wins] = index
    for surface in _solids(scene, style, rays, camera_from_map):
        wins = over_ground(surface) & (surface.depth < solid_depth)
        show(surface, wins)
        solid_depth[wins] = surface.depth[wins]
    return codes, ids, depth, rgb
