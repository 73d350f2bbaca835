"""Compiled shading of the camera simulator: how much light each pixel of a scene receives.

Colours are linear reflectances in 0..1; positions are metres in the map frame, so that textures
stay on the ground when the camera moves.
"""

# ruff: noqa: PLR0911, PLR0917 - look-up tables as branches; numba wants arguments by position.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rap_evaluation.photo.objects import Objects
from rap_evaluation.photo.samples import Samples
from rap_raster.compiled import helper, kernel
from rap_raster.frames import FloatArray
from rap_raster.scene import LightState, LineKind, ObjectClass, PolygonKind

Color = tuple[float, float, float]
Vector = tuple[float, float, float]
Box = tuple[float, float, float, float, float, float, float, float]
Part = tuple[float, float, float, float, float, float, float, float, float, float, float]
Thing = tuple[int, int, int, int]  # class code, look, shape of the part, whether it brakes
Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]

HAZE_M = 900.0
"""Distance at which haze has taken about two thirds of the contrast: a clear city day."""

PAVEMENT_M, KERB_M = 3.2, 0.3
"""Widths of the pavement and of its kerb stone."""

_FRUSTUM, _ELLIPSOID = 1, 2  # of `objects`
_BUILDING, _TREE, _POST = 100, 101, 102  # of `scenery`
# numba notices changes of this file only, so these are copies, which a test compares.

_VEHICLE, _TRUCK, _BUS = int(ObjectClass.VEHICLE), int(ObjectClass.TRUCK), int(ObjectClass.BUS)
_MOTORCYCLE, _PEDESTRIAN = int(ObjectClass.MOTORCYCLE), int(ObjectClass.PEDESTRIAN)
_BICYCLE = int(ObjectClass.BICYCLE)
_CONE = int(ObjectClass.CONE)
_BOUNDARY, _DIVIDER = int(LineKind.LANE_BOUNDARY), int(LineKind.LANE_DIVIDER)
_KERB, _STOP = int(LineKind.ROAD_BOUNDARY), int(LineKind.STOP_LINE)
_CROSSWALK, _BUMP = int(PolygonKind.CROSSWALK), int(PolygonKind.SPEED_BUMP)
_RED, _YELLOW = int(LightState.RED), int(LightState.YELLOW)
_GREEN, _UNKNOWN = int(LightState.GREEN), int(LightState.UNKNOWN)


class Sky(NamedTuple):
    """Light from above.

    Attributes:
        sun: Unit vector towards it, map frame.
        overcast: 0 (clear) to 1 (grey).
        clouds: Picks the clouds.
    """

    sun: Vector
    overcast: float
    clouds: int


_ACROSS, _ALONG, _SALT, _MIX = (
    np.uint32(374761393), np.uint32(668265263), np.uint32(2246822519), np.uint32(1274126177)
)  # fmt: skip


@helper
def _scrambled(value: np.uint32) -> float:
    """Turns a number into one in 0..1 that looks random."""
    mixed = np.uint32(np.uint32(value ^ (value >> np.uint32(13))) * _MIX)
    return float((mixed ^ (mixed >> np.uint32(16))) & np.uint32(0xFFFFFF)) / 16777216.0


@helper
def _hash(a: int, b: int, seed: int) -> float:
    """Uniform noise in 0..1 from two integers and a seed."""
    return _scrambled(
        np.uint32(np.uint32(a) * _ACROSS + np.uint32(b) * _ALONG + np.uint32(seed) * _SALT)
    )


@helper
def _texture(x: float, y: float, seed: int) -> float:
    """Smooth noise in 0..1 over a plane, with features of size one; `_hash` at whole numbers."""
    ix, iy = math.floor(x), math.floor(y)
    fx, fy = x - ix, y - iy
    here = np.uint32(np.uint32(ix) * _ACROSS + np.uint32(iy) * _ALONG + np.uint32(seed) * _SALT)
    above = np.uint32(here + _ALONG)
    low = (1 - fx) * _scrambled(here) + fx * _scrambled(np.uint32(here + _ACROSS))
    high = (1 - fx) * _scrambled(above) + fx * _scrambled(np.uint32(above + _ACROSS))
    return (1 - fy) * low + fy * high


@helper
def _mixed(a: Color, b: Color, share: float) -> Color:
    return (
        a[0] + share * (b[0] - a[0]),
        a[1] + share * (b[1] - a[1]),
        a[2] + share * (b[2] - a[2]),
    )


@helper
def _scaled(a: Color, factor: float) -> Color:
    return factor * a[0], factor * a[1], factor * a[2]


@helper
def _asphalt(x: float, y: float, sharp: float) -> Color:
    """Grain, patches of repair and dark tyre tracks."""
    large = _texture(x / 7.0, y / 7.0, 2)
    patch = _texture(x / 1.7, y / 1.7, 4)
    level = 0.105 + 0.035 * (large - 0.5) + 0.02 * (patch - 0.5)
    if sharp > 0.1:
        level += 0.06 * sharp * (_texture(x / 0.09, y / 0.09, 1) - 0.5)
        if abs(patch - 0.5) < 0.012 * sharp and large > 0.55:
            level *= 0.7
    return level, level, 1.04 * level


@helper
def _beside(x: float, y: float, sharp: float, clearance_m: float) -> Color:
    """Kerb, pavement and grass, by the distance to the road."""
    patch = _texture(x / 3.0, y / 3.0, 2)
    if clearance_m < KERB_M:
        level = 0.30 + 0.06 * patch
        return level, level, 0.97 * level
    if clearance_m < PAVEMENT_M or _texture(x / 60.0, y / 60.0, 9) > 0.62:
        seam = min(
            abs(x / 1.5 - math.floor(x / 1.5) - 0.5), abs(y / 1.5 - math.floor(y / 1.5) - 0.5)
        )
        level = 0.24 + 0.05 * (patch - 0.5) + 0.04 * sharp * (_texture(x / 0.1, y / 0.1, 6) - 0.5)
        level *= 1.0 - 0.3 * sharp * (1.0 if seam < 0.03 else 0.0)
        return level, 0.98 * level, 0.93 * level
    blade = 0.75 + 0.5 * patch + 0.7 * sharp * (_texture(x / 0.13, y / 0.13, 7) - 0.5)
    dry = _texture(x / 11.0, y / 11.0, 8)
    return (0.075 + 0.06 * dry) * blade, (0.12 + 0.02 * dry) * blade, 0.035 * blade


@helper
def _ground(code: int, x: float, y: float, distance_m: float, clearance_m: float) -> Color:
    """Reflectance of the ground at a map position."""
    sharp = 1.0 / (1.0 + (distance_m / 12.0) ** 2)  # fine grain averages out with distance
    if code == 0 and clearance_m > 0.05:
        return _beside(x, y, sharp, clearance_m)
    asphalt = _asphalt(x, y, sharp)
    if code == _KERB:
        return _beside(x, y, sharp, 0.0)
    if code in (_BOUNDARY, _DIVIDER, _STOP, _CROSSWALK):
        worn = 0.55 * _texture(x / 0.25, y / 0.25, 21) + 0.45 * _texture(x / 2.2, y / 2.2, 22)
        gone = min(1.0, max(0.0, 3.5 * (worn - 0.62)))
        return _mixed((0.58, 0.58, 0.55), asphalt, 0.12 + 0.75 * gone)
    if code == _BUMP:
        return (0.50, 0.36, 0.04) if math.floor((x + y) / 0.5) % 2 == 0 else asphalt
    return asphalt


@helper
def _heaven(way: Vector, sky: Sky) -> Color:
    """Light of the sky in a direction: blue, hazy below, clouds, a glow around the sun."""
    up = max(0.0, way[2])
    clear = _mixed((0.62, 0.72, 0.82), (0.13, 0.27, 0.60), min(1.0, 1.6 * math.sqrt(up)))
    stretch = 1.0 / (up + 0.12)
    cloud = 0.6 * _texture(1.6 * way[0] * stretch, 1.6 * way[1] * stretch, sky.clouds)
    cloud += 0.4 * _texture(4.1 * way[0] * stretch, 4.1 * way[1] * stretch, sky.clouds + 1)
    cover = min(1.0, max(0.0, 3.0 * (cloud - 0.75 + 0.65 * sky.overcast)))
    grey = 0.80 - 0.25 * sky.overcast * up - 0.12 * cover * cloud
    color = _mixed(clear, (grey, grey, 1.02 * grey), cover)
    toward = way[0] * sky.sun[0] + way[1] * sky.sun[1] + way[2] * sky.sun[2]
    if toward > 0.6:
        glow = (1.0 - 0.8 * sky.overcast) * ((toward - 0.6) / 0.4) ** 6
        color = (color[0] + 0.9 * glow, color[1] + 0.85 * glow, color[2] + 0.7 * glow)
    return color


@helper
def _skyline(way: Vector, sky: Sky) -> Color:
    """Light from where the ground ends: hazy roofs and trees, and the sky above them."""
    azimuth = math.atan2(way[1], way[0])
    roofs = 0.05 * _texture(math.floor(azimuth * 40.0), 0.5, 31)
    trees = 0.028 * _texture(azimuth * 25.0, 0.5, 32) + 0.008 * _texture(azimuth * 140.0, 0.5, 33)
    if way[2] > max(roofs - 0.012, trees):
        return _heaven(way, sky)
    far = (0.22, 0.24, 0.24) if roofs - 0.012 > trees else (0.12, 0.16, 0.11)
    return _mixed(far, (0.55, 0.62, 0.70), 0.5)


@helper
def _to_box(box: Box | Part, x: float, y: float, z: float) -> Vector:
    """Turns a map direction into a box's axes, in metres."""
    return box[6] * x + box[7] * y, box[6] * y - box[7] * x, z


@helper
def _normal(part: Part, shape: int, point: Vector) -> tuple[Vector, int]:
    """Returns the outward normal of a part at a point, map frame, and the axis it is nearest to."""
    o = _to_box(part, point[0] - part[0], point[1] - part[1], point[2] - part[2])
    x, y, z = o[0] / part[3], o[1] / part[4], o[2] / part[5]
    axis = 2
    if shape == _ELLIPSOID:
        nx, ny, nz = x / part[3], y / part[4], z / part[5]
    else:
        sx, sy, sz = math.copysign(1.0, x), math.copysign(1.0, y), math.copysign(1.0, z)
        lean_x = 0.5 * (part[8] if x > 0.0 else part[9])
        lean_y = 0.5 * part[10]
        front, side = sx * x + lean_x * (z + 1.0), sy * y + lean_y * (z + 1.0)
        nx, ny, nz = 0.0, 0.0, 0.0
        if front >= side and front >= abs(z):
            nx, nz, axis = sx / part[3], lean_x / part[5], 0
        elif side >= abs(z):
            ny, nz, axis = sy / part[4], lean_y / part[5], 1
        else:
            nz = sz
    scale = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    return (part[6] * nx - part[7] * ny, part[7] * nx + part[6] * ny, nz), axis


@helper
def _paint(look: int) -> Color:
    """Body colour of a vehicle: mostly white, grey and black, as on real roads."""
    pick, shade = _hash(look, 7, 11), 0.6 + 0.4 * _hash(look, 8, 11)
    if pick < 0.28:
        return 0.70 * shade, 0.70 * shade, 0.71 * shade
    if pick < 0.52:
        return 0.24 * shade, 0.25 * shade, 0.27 * shade
    if pick < 0.68:
        return 0.025, 0.025, 0.03
    if pick < 0.80:
        return 0.38 * shade, 0.03, 0.025
    if pick < 0.93:
        return 0.03, 0.09 * shade, 0.32 * shade
    return 0.36 * shade, 0.30 * shade, 0.12


@helper
def _wheel(box: Box, along_m: float, up_m: float) -> tuple[bool, Color]:
    """Returns if there is a wheel on a vehicle's side, and its reflectance."""
    radius = min(0.5, 0.46 * box[5])
    away = math.hypot(abs(along_m) - 0.62 * box[3], up_m - radius) / radius
    if away > 1.15:
        return False, (0.0, 0.0, 0.0)
    return True, (0.28, 0.28, 0.29) if away < 0.6 else (0.012, 0.012, 0.012)


@helper
def _glazed(part: Part, shape: int, point: Vector, axis: int) -> bool:
    """True on the windows of a car's cabin."""
    if shape != _FRUSTUM or axis == 2:
        return False
    o = _to_box(part, point[0] - part[0], point[1] - part[1], point[2] - part[2])
    up = o[2] / part[5]
    across = o[1] / part[4] if axis == 0 else o[0] / part[3]
    width = 1.0 - 0.5 * (part[10] if axis == 0 else max(part[8], part[9])) * (up + 1.0)
    pillar = axis == 1 and abs(across + 0.05) < 0.05
    return -0.85 < up < 0.78 and abs(across) < 0.9 * width and not pillar


@helper
def _wide_glass(code: int, a: float, b: float, c: float, along_m: float, axis: int) -> bool:
    """True on the windows of a bus or a truck; a, b, c in -1..1 of its box."""
    if axis == 0:
        return abs(b) < 0.9 and -0.15 < c < 0.72 and (a > 0.0 or (code == _BUS and c > 0.1))
    if code == _TRUCK:
        return a > 0.68 and a < 0.93 and -0.05 < c < 0.55
    bay = along_m / 1.5
    return axis == 1 and -0.1 < c < 0.66 and abs(a) < 0.96 and bay - math.floor(bay) > 0.1


@helper
def _end(box: Box, o: Vector, braking: int) -> tuple[bool, Color, float]:
    """Lamps, plate and bumper at the front or rear of a vehicle, with the lamps' own light."""
    up_m, across_m, light = o[2] + box[5], abs(o[1]), 4.0 if braking else 0.12
    lamps_m = min(0.76 * box[5], 0.95)
    if abs(up_m - lamps_m) < 0.11 and box[4] - 0.42 < across_m < box[4] - 0.04:
        return (True, (0.8, 0.8, 0.75), 0.3) if o[0] > 0 else (True, (0.5, 0.02, 0.02), light)
    if across_m < 0.27 and -0.28 < up_m - lamps_m < -0.14:
        return True, (0.65, 0.65, 0.60), 0.0
    if up_m < 0.27 * box[5] or (o[0] > 0 and abs(up_m - lamps_m) < 0.12 and across_m < 0.4):
        return True, (0.02, 0.02, 0.022), 0.0
    return False, (0.0, 0.0, 0.0), 0.0


@helper
def _vehicle(
    code: int, look: int, box: Box, o: Vector, axis: int, glazed: bool, braking: int
) -> tuple[Color, float, float]:
    """Reflectance, gloss and own light of a vehicle's skin; `o` in metres from its middle."""
    a, b, c = o[0] / box[3], o[1] / box[4], o[2] / box[5]
    if glazed or (code != _VEHICLE and _wide_glass(code, a, b, c, o[0], axis)):
        return (0.02, 0.024, 0.028), 0.7, 0.0
    if axis == 1:
        wheel, color = _wheel(box, o[0], o[2] + box[5])
        if wheel:
            return color, 0.0, 0.0
        if c < -0.78 or (code == _TRUCK and c < -0.70 and a < 0.55):
            return (0.02, 0.02, 0.02), 0.0, 0.0
    elif axis == 0:
        found, color, light = _end(box, o, braking)
        if found:
            return color, 0.1, light
    if code == _TRUCK and a < 0.53:
        level = 0.35 + 0.35 * _hash(look, 9, 11)
        return (level, level, level), 0.03, 0.0
    return _paint(look), 0.22, 0.0


@helper
def _person(code: int, look: int, a: float, b: float, c: float) -> Color:
    """Reflectance of somebody on foot or on two wheels, from shoes to hair."""
    if code != _PEDESTRIAN and c < -0.2 and abs(b) < 0.2:
        return 0.03, 0.03, 0.03
    if c > 0.88 or (c > 0.7 and a < -0.1):
        return 0.06, 0.04, 0.03
    if c > 0.7:
        return 0.42, 0.27, 0.20
    if c > -0.05:
        pick = _hash(look, 5, 12)
        return _mixed(_paint(look + 77), (0.30, 0.05 + 0.3 * pick, 0.12), pick)
    return _scaled((0.10, 0.11, 0.17), 0.4 + _hash(look, 6, 12))


@helper
def _facade_color(look: int) -> Color:
    """Brick, plaster, sandstone or concrete."""
    pick, shade = _hash(look, 1, 13), 0.75 + 0.35 * _hash(look, 2, 13)
    if pick < 0.3:
        return 0.26 * shade, 0.115 * shade, 0.075 * shade
    if pick < 0.55:
        return 0.46 * shade, 0.42 * shade, 0.34 * shade
    if pick < 0.8:
        return 0.38 * shade, 0.30 * shade, 0.20 * shade
    return 0.30 * shade, 0.31 * shade, 0.32 * shade


@helper
def _facade(look: int, box: Box, o: Vector, axis: int, pixels_per_m: float) -> tuple[Color, float]:
    """Reflectance and gloss of a building; windows melt together where they are small."""
    wall = _facade_color(look)
    if axis == 2:
        return (0.16, 0.15, 0.15), 0.0
    across, up = (o[1] if axis == 0 else o[0]), o[2] + box[5] - 1.0
    dirt = 0.85 + 0.3 * _texture(across / 1.3, up / 2.1, look & 0xFF)
    wall = _scaled(wall, dirt)
    if up > 2.0 * box[5] - 1.8 or up < 0.4:
        return _scaled(wall, 0.7), 0.0
    bay_m = 2.2 + 1.4 * _hash(look, 3, 13)
    bay, storey = across / bay_m, up / 3.1
    h, v = bay - math.floor(bay), storey - math.floor(storey)
    shop = storey < 1.0 and axis == 0 and _hash(look, 4, 13) > 0.4
    edge = 0.08 if shop else 0.22
    inside = edge < h < 1.0 - edge and (0.08 if shop else 0.28) < v < 0.78
    sharp = min(1.0, max(0.0, 0.25 * (pixels_per_m * bay_m - 2.0)))
    share = sharp * (1.0 if inside else 0.0) + (1.0 - sharp) * (0.6 if shop else 0.28)
    room = 0.02 + 0.10 * _hash(math.floor(bay), math.floor(storey), look & 0xFFFF) ** 3
    return _mixed(wall, (room, room, 1.1 * room), share), 0.55 * share


@helper
def _tree(look: int, box: Box, point: Vector, o: Vector, shape: int) -> Color:
    """Reflectance of bark and leaves; inside and below the crown it is darker."""
    if shape != _ELLIPSOID:
        return 0.09, 0.065, 0.045
    leaves = _texture(4.0 * point[0] + 2.9 * point[2], 4.0 * point[1] - 3.3 * point[2], 41)
    clumps = _texture(1.4 * point[0] + point[2], 1.4 * point[1] - 1.2 * point[2], 42)
    depth = 0.35 + 0.40 * (o[2] / box[5] + 0.3) + 0.7 * leaves * clumps
    hue = _hash(look, 1, 14)
    return _scaled((0.07 + 0.06 * hue, 0.12, 0.03), max(0.25, 1.5 * depth))


@helper
def _signal(code: int, box: Box, o: Vector, axis: int) -> tuple[Color, float]:
    """Reflectance and own light of a traffic light: one of three lamps at its front."""
    if axis != 0 or o[0] < 0.0 or code == _UNKNOWN:
        return (0.02, 0.02, 0.02), 0.0
    middle = 0.62 if code == _RED else (0.0 if code == _YELLOW else -0.62)
    inside = (o[1] / box[4] / 0.9) ** 2 + ((o[2] / box[5] - middle) / 0.34) ** 2 < 1.0
    color = (1.0, 0.06, 0.03)
    if code == _YELLOW:
        color = (1.0, 0.55, 0.03)
    elif code == _GREEN:
        color = (0.05, 1.0, 0.55)
    return color, 1.6 if inside else 0.08


@helper
def _material(
    thing: Thing, box: Box, part: Part, point: Vector, axis: int, pixels_per_m: float
) -> tuple[Color, float, float]:
    """Reflectance, gloss and own light (in its colour) of a point on a part."""
    code, look, shape, braking = thing
    o = _to_box(box, point[0] - box[0], point[1] - box[1], point[2] - box[2])
    a, b, c = o[0] / box[3], o[1] / box[4], o[2] / box[5]
    if code in (_VEHICLE, _TRUCK, _BUS):
        return _vehicle(code, look, box, o, axis, _glazed(part, shape, point, axis), braking)
    if code in (_PEDESTRIAN, _BICYCLE, _MOTORCYCLE):
        return _person(code, look, a, b, c), 0.02, 0.0
    if code == _BUILDING:
        color, gloss = _facade(look, box, o, axis, pixels_per_m)
        return color, gloss, 0.0
    if code == _TREE:
        return _tree(look, box, point, o, shape), 0.0, 0.0
    if _RED <= code <= _UNKNOWN:
        color, light = _signal(code, box, o, axis)
        return color, 0.0, light
    if code == _POST:
        return (0.16, 0.17, 0.17), 0.1, 0.0
    if code == _CONE:
        white = -0.2 < c < 0.25
        return ((0.7, 0.7, 0.7) if white else (0.75, 0.14, 0.02)), 0.0, 0.0
    stripe = math.floor((o[0] + o[1] + o[2]) / 0.3) % 2 == 0
    return ((0.6, 0.6, 0.6) if stripe else (0.5, 0.06, 0.04)), 0.0, 0.0


@helper
def _lit(color: Color, normal: Vector, sun: float, open_share: float, sky: Sky) -> Color:
    """Light from a matt surface: from the sun, the sky and the ground."""
    up = 0.5 + 0.5 * normal[2]
    ambient = open_share * ((0.36 + 0.30 * sky.overcast) * up + 0.09 * (1.0 - up))
    direct = 1.5 * (1.0 - sky.overcast) * sun
    blue = 0.12 * (1.0 - sky.overcast)
    return (
        color[0] * (direct + (1.0 - blue) * ambient),
        color[1] * (0.95 * direct + ambient),
        color[2] * (0.84 * direct + (1.0 + blue) * ambient),
    )


@helper
def _mirrored(way: Vector, normal: Vector, gloss: float, sky: Sky) -> Color:
    """Light that a smooth surface mirrors, more of it at flat angles (Schlick's formula)."""
    facing = way[0] * normal[0] + way[1] * normal[1] + way[2] * normal[2]
    flat = min(1.0, max(0.0, 1.0 + facing))
    share = gloss * (0.12 + 0.88 * flat**4)
    back = (
        way[0] - 2 * facing * normal[0],
        way[1] - 2 * facing * normal[1],
        way[2] - 2 * facing * normal[2],
    )
    if back[2] > 0.12:
        return _scaled(_heaven(back, sky), share)
    return _scaled((0.14, 0.14, 0.13), share)


@helper
def _object_light(
    thing: Thing, box: Box, part: Part, point: Vector, way: Vector, pixels_per_m: float,
    shone: bool, sky: Sky,
) -> Color:  # fmt: skip
    """Light that a point on a part sends to the camera."""
    normal, axis = _normal(part, thing[2], point)
    color, gloss, light = _material(thing, box, part, point, axis, pixels_per_m)
    sun = normal[0] * sky.sun[0] + normal[1] * sky.sun[1] + normal[2] * sky.sun[2]
    if thing[0] == _TREE:
        sun = 0.25 + 0.75 * sun  # leaves let light through
    sun = max(0.0, sun) if shone else 0.0
    lit = _lit(color, normal, sun, 1.0, sky)
    if gloss > 0.0:
        mirror = _mirrored(way, normal, gloss, sky)
        lit = (lit[0] + mirror[0], lit[1] + mirror[1], lit[2] + mirror[2])
    return lit[0] + light * color[0], lit[1] + light * color[1], lit[2] + light * color[2]


@helper
def _box(rows: FloatArray, k: int) -> Box:
    return (
        rows[k, 0], rows[k, 1], rows[k, 2], rows[k, 3],
        rows[k, 4], rows[k, 5], rows[k, 6], rows[k, 7],
    )  # fmt: skip


@kernel
def shade(
    samples: Samples, objects: Objects, lit: UInt8, open_shares: Float32, clearances_m: Float32,
    sky: Sky, focal_px: float, out: Float32,
) -> None:  # fmt: skip
    """Finds the light that arrives at each pixel of a picture.

    Args:
        samples: Of the picture.
        objects: Those its parts belong to.
        lit: (S,) see `sunlit`.
        open_shares: (S,) see `openness`.
        clearances_m: (S,) distance to the road.
        sky: And the sun.
        focal_px: Of the picture.
        out: (H * W, 3) float32 linear rgb, written.
    """
    out[:] = 0.0
    for s in range(len(samples.codes)):
        if samples.shares[s] == 0.0:
            continue
        k, code, distance_m = samples.parts[s], samples.codes[s], samples.distances_m[s]
        way = (samples.ways[s, 0], samples.ways[s, 1], samples.ways[s, 2])
        point = (samples.points_m[s, 0], samples.points_m[s, 1], samples.points_m[s, 2])
        if k >= 0:
            n, p = objects.owners[k], objects.parts[k]
            part = (*_box(objects.parts, k), p[8], p[9], p[10])
            look, braking = int(objects.looks[n]), int(objects.braking[n])
            thing = (int(code), look, int(objects.shapes[k]), braking)
            color = _object_light(
                thing, _box(objects.boxes, n), part, point, way, focal_px / distance_m,
                lit[s] != 0, sky,
            )  # fmt: skip
        elif distance_m < math.inf:
            color = _ground(code, point[0], point[1], distance_m, clearances_m[s])
            sun = sky.sun[2] if lit[s] else 0.0
            color = _lit(color, (0.0, 0.0, 1.0), sun, open_shares[s], sky)
        else:
            color = _skyline(way, sky)
        if distance_m < math.inf:
            color = _mixed(color, (0.50, 0.57, 0.66), 1.0 - math.exp(-distance_m / HAZE_M))
        for channel in range(3):
            out[samples.pixels[s], channel] += samples.shares[s] * color[channel]
