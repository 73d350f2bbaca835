"""Compiled shading kernels of the camera simulator: what each pixel of a scene looks like.

Colours are linear light in 0..1; positions are metres in the map frame, so that textures stay on
the ground when the camera moves.
"""

# ruff: noqa: PLR0911, PLR0917 - look-up tables as branches; numba wants arguments by position.

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from rap_raster.scene import LightState, LineKind, ObjectClass, PolygonKind

Array = npt.NDArray[Any]
Color = tuple[float, float, float]

HORIZON_M = 1000.0
"""Bare ground farther away is indistinguishable from the horizon."""

SHADOW_RANGE_M = 50.0
"""Farther shadows are below a pixel high at the resolutions we draw."""

HAZE_M = 260.0
"""Distance at which haze has taken about two thirds of the contrast: a clear city day."""

_VEHICLE, _TRUCK, _BUS = int(ObjectClass.VEHICLE), int(ObjectClass.TRUCK), int(ObjectClass.BUS)
_MOTORCYCLE, _PEDESTRIAN = int(ObjectClass.MOTORCYCLE), int(ObjectClass.PEDESTRIAN)
_BICYCLE, _GENERIC = int(ObjectClass.BICYCLE), int(ObjectClass.GENERIC)
_CONE = int(ObjectClass.CONE)
_BOUNDARY, _DIVIDER = int(LineKind.LANE_BOUNDARY), int(LineKind.LANE_DIVIDER)
_KERB, _STOP = int(LineKind.ROAD_BOUNDARY), int(LineKind.STOP_LINE)
_CROSSWALK, _BUMP = int(PolygonKind.CROSSWALK), int(PolygonKind.SPEED_BUMP)
_RED, _YELLOW = int(LightState.RED), int(LightState.YELLOW)
_GREEN, _UNKNOWN = int(LightState.GREEN), int(LightState.UNKNOWN)

_GAMMA = (255.0 * (np.arange(1024) / 1023.0) ** 0.7).astype(np.float32)
"""Grey level by linear light; a table, because a power per channel is half the cost of a pixel."""


@njit(cache=True, nogil=True)
def _hash(a: int, b: int, seed: int | np.uint32) -> float:
    """Uniform noise in 0..1 from two integers and a seed."""
    value = np.uint32(a) * np.uint32(374761393) + np.uint32(b) * np.uint32(668265263)
    value = (value + np.uint32(seed) * np.uint32(2246822519)) & np.uint32(0xFFFFFFFF)
    value = np.uint32((value ^ (value >> np.uint32(13))) * np.uint32(1274126177))
    return float((value ^ (value >> np.uint32(16))) & np.uint32(0xFFFFFF)) / 16777216.0


@njit(cache=True, nogil=True)
def _texture(x: float, y: float, cell_m: float, seed: int) -> float:
    """Smooth noise in 0..1 that is fixed to the ground."""
    gx, gy = x / cell_m, y / cell_m
    ix, iy = math.floor(gx), math.floor(gy)
    fx, fy = gx - ix, gy - iy
    a, b = int(ix) & 0xFFFFF, int(iy) & 0xFFFFF
    low = (1 - fx) * _hash(a, b, seed) + fx * _hash(a + 1, b, seed)
    high = (1 - fx) * _hash(a, b + 1, seed) + fx * _hash(a + 1, b + 1, seed)
    return (1 - fy) * low + fy * high


@njit(cache=True, nogil=True)
def _ground(code: int, x: float, y: float, distance_m: float) -> Color:
    """Colour in 0..1 of the ground at a map position."""
    sharp = 1.0 / (1.0 + distance_m / 15.0)  # fine grain averages out with distance
    grain = 0.5 + sharp * (_texture(x, y, 0.12, 1) - 0.5)
    patch = _texture(x, y, 3.0, 2)
    if code == 0:
        base = 0.7 + 0.4 * patch + 0.3 * (grain - 0.5)
        return 0.27 * base, 0.36 * base, 0.17 * base
    asphalt = 0.30 + 0.10 * (patch - 0.5) + 0.16 * (grain - 0.5)
    worn = 0.75 + 0.25 * patch
    if code in (_BOUNDARY, _STOP):
        return 0.85 * worn, 0.85 * worn, 0.83 * worn
    if code == _DIVIDER and math.floor((x + y) / 3.0) % 2 == 0:
        return 0.85 * worn, 0.85 * worn, 0.83 * worn
    if code == _KERB:
        return 0.55 * worn, 0.54 * worn, 0.52 * worn
    if code == _CROSSWALK and math.floor((x - y) / 0.7) % 2 == 0:
        return 0.82 * worn, 0.82 * worn, 0.80 * worn
    if code == _BUMP:
        return 0.75 * worn, 0.62 * worn, 0.15
    return asphalt, asphalt, asphalt * 1.03


@njit(cache=True, nogil=True)
def _sky(elevation: float, azimuth: float, overcast: float) -> Color:
    """Colour of the sky in 0..1; elevation is the sine of the angle above the horizon."""
    up = math.sqrt(max(0.0, elevation))
    cloud = _texture(azimuth * 6.0, up * 12.0, 1.0, 3) * 0.5 + 0.5 * overcast
    red = (1 - up) * 0.85 + up * 0.35
    green = (1 - up) * 0.88 + up * 0.55
    blue = (1 - up) * 0.92 + up * 0.90
    grey = 0.82 - 0.15 * up
    mix = min(1.0, cloud)
    return red + mix * (grey - red), green + mix * (grey - green), blue + mix * (grey - blue)


@njit(cache=True, nogil=True)
def _paint(instance: int) -> Color:
    """Body colour of a vehicle: mostly white, grey and black, as on real roads."""
    pick, shade = _hash(instance, 7, 11), 0.6 + 0.4 * _hash(instance, 8, 11)
    if pick < 0.3:
        return 0.85 * shade, 0.85 * shade, 0.86 * shade
    if pick < 0.5:
        return 0.45 * shade, 0.46 * shade, 0.48 * shade
    if pick < 0.65:
        return 0.10, 0.10, 0.11
    if pick < 0.8:
        return 0.65 * shade, 0.12, 0.10
    if pick < 0.93:
        return 0.12, 0.22 * shade, 0.60 * shade
    return 0.65 * shade, 0.55 * shade, 0.15


@njit(cache=True, nogil=True)
def _vehicle(code: int, instance: int, a: float, b: float, c: float, side: int) -> Color:
    """Colour of a vehicle's skin; a, b, c in -1..1 along length, width, height."""
    if side == 1 and c < -0.5 and abs(abs(a) - 0.62) < 0.16:
        return 0.05, 0.05, 0.05
    window_low = 0.15 if code == _VEHICLE else 0.0
    big = code in (_TRUCK, _BUS)
    glazed = side != 2 and window_low < c < 0.8 and abs(b if side == 0 else a) < 0.86
    if glazed and not (code == _TRUCK and side == 1 and a < 0.6) and not (big and a < -0.99):
        return 0.10, 0.13, 0.16
    if side == 0 and abs(b) > 0.62 and -0.45 < c < -0.1:
        return (0.95, 0.95, 0.85) if a > 0 else (0.75, 0.05, 0.05)
    if c < -0.75:
        return 0.08, 0.08, 0.08
    return _paint(instance)


@njit(cache=True, nogil=True)
def _person(instance: int, c: float) -> Color:
    """Colour of a person by height: trousers, coat, head."""
    if c > 0.72:
        return 0.72, 0.55, 0.45
    if c > -0.1:
        return _paint(instance + 77)
    return 0.16, 0.17, 0.25


@njit(cache=True, nogil=True)
def _solid(code: int, instance: int, a: float, b: float, c: float, side: int) -> Color:
    """Colour in 0..1 of a box's surface."""
    if code in (_VEHICLE, _TRUCK, _BUS):
        return _vehicle(code, instance, a, b, c, side)
    if code in (_PEDESTRIAN, _BICYCLE, _MOTORCYCLE):
        if code != _PEDESTRIAN and c < -0.2:
            return 0.07, 0.07, 0.07
        return _person(instance, c)
    if code == _CONE:
        return (0.9, 0.9, 0.9) if abs(c) < 0.25 else (0.9, 0.35, 0.05)
    return (0.8, 0.8, 0.8) if math.floor((a + c) * 4) % 2 == 0 else (0.75, 0.2, 0.15)


@njit(cache=True, nogil=True)
def _lamp(code: int) -> Color:
    """Colour of a lit traffic light."""
    if code == _RED:
        return 1.0, 0.12, 0.08
    if code == _YELLOW:
        return 1.0, 0.75, 0.10
    if code == _GREEN:
        return 0.10, 0.95, 0.55
    return 0.12, 0.12, 0.12


@njit(cache=True, nogil=True)
def _local(point: Color, box: Array) -> Color:
    """Position in a box in units of its half size."""
    dx, dy = point[0] - box[0], point[1] - box[1]
    return (
        2 * (box[6] * dx + box[7] * dy) / box[3],
        2 * (box[6] * dy - box[7] * dx) / box[4],
        2 * (point[2] - box[2]) / box[5],
    )


@njit(cache=True, nogil=True)
def _box_shading(
    code: int, instance: int, point: Color, box: Array, sun: Array
) -> tuple[float, float, float, float]:
    """Colour of a point on a box and the cosine between its face and the sun."""
    a, b, c = _local(point, box)
    cos, sin = box[6], box[7]
    if abs(c) > abs(a) and abs(c) > abs(b):
        side, lambert = 2, sun[2] if c > 0 else 0.0
    elif abs(a) > abs(b):
        sign = 1.0 if a > 0 else -1.0
        side, lambert = 0, sign * (cos * sun[0] + sin * sun[1])
    else:
        sign = 1.0 if b > 0 else -1.0
        side, lambert = 1, sign * (cos * sun[1] - sin * sun[0])
    red, green, blue = _solid(code, instance, a, b, c, side)
    return red, green, blue, max(0.0, lambert)


@njit(cache=True, nogil=True)
def _in_shadow(point: Color, boxes: Array, casters: Array, sun: Array) -> bool:
    """True if the way from a ground point to the sun meets one of the casters."""
    for k in range(len(casters)):
        reach = casters[k, 1]
        if abs(point[0] - casters[k, 2]) > reach or abs(point[1] - casters[k, 3]) > reach:
            continue
        box = boxes[int(casters[k, 0])]
        for step in range(1, 5):
            rise = 0.225 * step * box[5] / sun[2]
            probe = (point[0] + rise * sun[0], point[1] + rise * sun[1], box[2])
            a, b, _ = _local(probe, box)
            if abs(a) < 1 and abs(b) < 1:
                return True
    return False


@njit(cache=True, nogil=True)
def _casters(boxes: Array, ego: Array, sun: Array) -> Array:
    """Returns (n, 4) index, shadow length, x and y of the boxes whose shadows can be seen."""
    found = np.empty((len(boxes), 4))
    count = 0
    for k in range(len(boxes)):
        if math.hypot(boxes[k, 0] - ego[0], boxes[k, 1] - ego[1]) < SHADOW_RANGE_M:
            found[count, 0] = k
            found[count, 1] = 0.5 * (boxes[k, 3] + boxes[k, 4]) + boxes[k, 5] / sun[2]
            found[count, 2:] = boxes[k, :2]
            count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def _expose(
    value: float, gain: float, noise: float, i: int, j: int, channel: int, seed: np.uint32
) -> np.uint8:
    """Linear light to a grey level: gain, gamma, sensor noise."""
    level = _GAMMA[int(1023.0 * min(1.0, max(0.0, value * gain)))]
    level += noise * (_hash(i * 3 + channel, j, seed) - 0.5) * 3.46  # standard deviation one
    return np.uint8(min(255.0, max(0.0, level)))


@njit(cache=True, nogil=True)
def _surface(
    code: int, instance: int, point: Color, distance_m: float, ids: Array, boxes: Array,
    casters: Array, day: Array,
) -> Color:  # fmt: skip
    """Light that leaves a point of the scene towards the camera, without haze."""
    sun, overcast = day[:3], day[3]
    ambient, direct = 0.55 + 0.2 * overcast, 0.75 * (1.0 - overcast)
    if 1 <= code <= _GENERIC:
        box = boxes[np.searchsorted(ids, instance)]
        red, green, blue, lambert = _box_shading(code, instance, point, box, sun)
        light = ambient + direct * lambert
    elif _RED <= code <= _UNKNOWN:
        red, green, blue = _lamp(code)
        light = 1.0
    else:
        red, green, blue = _ground(code, point[0], point[1], distance_m)
        light = ambient + direct * sun[2]
        if _in_shadow(point, boxes, casters, sun):
            light = ambient - 0.15
    return light * red, light * green, light * blue


@njit(cache=True, nogil=True)
def shade(
    classes: Array, instances: Array, depths: Array, intrinsics: Array, map_from_camera: Array,
    ids: Array, boxes: Array, ego: Array, day: Array, seed: np.uint32, out: Array,
) -> None:  # fmt: skip
    """Shades every pixel of an image.

    Args:
        classes: (H, W) uint8 class channel.
        instances: (H, W) int32 instance channel.
        depths: (H, W) float32 metres along the optical axis.
        intrinsics: (4,) fx, fy, cx, cy in pixels.
        map_from_camera: (4, 4).
        ids: (N,) int32 box ids, ascending.
        boxes: (N, 8) centre, size, cosine and sine of the yaw of those boxes, map frame.
        ego: (3,) position, map frame.
        day: (7,) sun direction (3), overcast, gain, warmth, noise.
        seed: Of the sensor noise.
        out: (H, W, 3) uint8, written.
    """
    overcast, gain, warmth, noise = day[3], day[4], day[5], day[6]
    casters = _casters(boxes, ego, day[:3])
    rotation, eye = map_from_camera[:3, :3], map_from_camera[:3, 3]
    for j in range(classes.shape[0]):
        for i in range(classes.shape[1]):
            u = (i - intrinsics[2]) / intrinsics[0]
            v = (j - intrinsics[3]) / intrinsics[1]
            dx = rotation[0, 0] * u + rotation[0, 1] * v + rotation[0, 2]
            dy = rotation[1, 0] * u + rotation[1, 1] * v + rotation[1, 2]
            dz = rotation[2, 0] * u + rotation[2, 1] * v + rotation[2, 2]
            code, depth = classes[j, i], depths[j, i]
            stretch = math.sqrt(u * u + v * v + 1.0)
            if code == 0 and dz < -1e-3:
                depth = (ego[2] - eye[2]) / dz  # bare ground, as high as the ego stands
            if code == 0 and (dz >= -1e-3 or depth > HORIZON_M):
                color = _sky(max(0.0, dz / stretch), math.atan2(dy, dx), overcast)
                haze = 0.0
            else:
                point = (eye[0] + depth * dx, eye[1] + depth * dy, eye[2] + depth * dz)
                distance_m = depth * stretch
                color = _surface(code, instances[j, i], point, distance_m, ids, boxes, casters, day)
                haze = 1.0 - math.exp(-distance_m / HAZE_M)
            red = (color[0] * (1 - haze) + haze * 0.80) * warmth
            green = color[1] * (1 - haze) + haze * 0.83
            blue = (color[2] * (1 - haze) + haze * 0.87) / warmth
            out[j, i, 0] = _expose(red, gain, noise, i, j, 0, seed)
            out[j, i, 1] = _expose(green, gain, noise, i, j, 1, seed)
            out[j, i, 2] = _expose(blue, gain, noise, i, j, 2, seed)
