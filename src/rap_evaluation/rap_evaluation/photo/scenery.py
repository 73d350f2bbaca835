"""Buildings and trees beside the road. The same place always has the same ones.

What stands at a place follows from a hash of its position and from the roads within `REACH_M` of
it, whatever the ego sees and whichever piece of the map is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_evaluation.photo.roadside import CLEARANCE_ERROR_M, Roadside
from rap_raster.frames import FloatArray

REACH_M = 80.0
"""Farther roads have no influence on what stands at a place."""

_MOVED_M = 35.0
"""Things stand at most this far from their cell of the lattice, half of their size included."""

BUILDING_CLEARANCE_M = 3.5
"""Least distance between a building and anything mapped: a pavement's width."""

POST_CLEARANCE_M = 1.2
"""Distance between a lamp post and the kerb."""

CLEAR_VIEW_M = 25.0
"""No street tree grows nearer to a junction: it would hide the traffic lights."""

CROWN = 0.71
"""Reach of a tree's box from the trunk, over its width: half of the diagonal."""

LOT_M, ORCHARD_M, POST_M = 15.0, 8.0, 26.0
"""One building, tree or lamp post at most per lattice cell of this size."""

SLOPE_M = 2.0
"""The direction away from a road is measured over this distance."""

STOREY_M = 3.1
FOUNDATION_M = 1.0
"""Buildings and trunks begin this far below the road beside them: ground may fall away."""

BUILDING, TREE, POST = 100, 101, 102
"""Class codes of scenery; see `rap_raster.scene` for all others."""


@dataclass(frozen=True, slots=True)
class Scenery:
    """N upright boxes beside the road: buildings, trees and lamp posts.

    Attributes:
        centers_m: (N, 3) float64, map frame.
        sizes_m: (N, 3) float64 length, width, height; buildings face the road with their length.
        yaws_rad: (N,) float64.
        codes: (N,) uint8, `BUILDING`, `TREE` or `POST`.
        looks: (N,) int32, >= 0; picks colours and details.
    """

    centers_m: FloatArray
    sizes_m: FloatArray
    yaws_rad: FloatArray
    codes: npt.NDArray[np.uint8]
    looks: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.codes)

    def select(self, keep: npt.NDArray[np.bool_]) -> Scenery:
        """Returns what a mask chooses."""
        return Scenery(
            self.centers_m[keep],
            self.sizes_m[keep],
            self.yaws_rad[keep],
            self.codes[keep],
            self.looks[keep],
        )


NO_SCENERY = Scenery(
    np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.uint8), np.zeros(0, np.int32)
)


def scenery(side: Roadside, low_m: FloatArray, size_m: float) -> Scenery:
    """Decides what stands in a square: everything with its centre in it.

    Args:
        side: The roads of the square and at least `REACH_M` around it.
        low_m: (2,) least x and y.
        size_m: Side of the square.
    """
    if len(side.heights_m) == 0:
        return NO_SCENERY
    wide_m, from_m = size_m + 2 * _MOVED_M, low_m - _MOVED_M
    buildings = _buildings(side, from_m, wide_m)
    small = _joined([_trees(side, from_m, wide_m), _posts(side, from_m, wide_m)])
    every = _joined([buildings, small.select(~_inside(small, buildings))])
    offset = every.centers_m[:, :2] - low_m
    return every.select(np.abs(offset - 0.5 * size_m).max(axis=1, initial=0.0) < 0.5 * size_m)


def unit_hash(cells: npt.NDArray[np.int64], salt: int) -> FloatArray:
    """Returns (n,) numbers in 0..1 that look random, from (n, 2) whole numbers and a salt."""
    mixed = (cells[:, 0] * 374761393 + cells[:, 1] * 668265263 + salt * 2246822519).astype(
        np.uint32
    )
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(1274126177)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2654435761)
    result: FloatArray = ((mixed ^ (mixed >> np.uint32(16))) >> np.uint32(8)) / 2.0**24
    return result


def _lattice(
    low_m: FloatArray, size_m: float, pitch_m: float, salt: int
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Returns the (n, 2) cells of a lattice that cover a square and a place in each."""
    first = np.floor(low_m / pitch_m).astype(np.int64)
    count = int(np.ceil(size_m / pitch_m)) + 1
    cells = first + np.stack(np.meshgrid(*[np.arange(count)] * 2), axis=-1).reshape(-1, 2)
    shift = np.stack([unit_hash(cells, salt), unit_hash(cells, salt + 1)], axis=1)
    places_m = (cells + 0.2 + 0.6 * shift) * pitch_m
    inside = ((places_m >= low_m) & (places_m < low_m + size_m)).all(axis=1)
    return cells[inside], places_m[inside]


def _away(side: Roadside, places_m: FloatArray) -> FloatArray:
    """Returns the (n, 2) directions away from the nearest road: where the clearance grows."""
    ahead, behind = np.eye(2) * SLOPE_M, -np.eye(2) * SLOPE_M
    rise = side.clearance_at(places_m[:, None] + ahead) - side.clearance_at(
        places_m[:, None] + behind
    )
    away: FloatArray = rise / np.maximum(np.linalg.norm(rise, axis=1, keepdims=True), 1e-6)
    return away


def _buildings(side: Roadside, low_m: FloatArray, size_m: float) -> Scenery:
    """A row along every road, at one distance for a whole block, and more behind it."""
    cells, places = _lattice(low_m, size_m, LOT_M, 10)
    distance = side.clearance_at(places)
    rows = (distance > 4.0) & (distance < 45.0) & (unit_hash(cells, 12) < 0.85)
    cells, places, distance = cells[rows], places[rows], distance[rows]
    away, ground_m = _away(side, places), side.height_at(places)
    block = cells // 6
    length, width = 9.0 + 6.0 * unit_hash(cells, 13), 10.0 + 9.0 * unit_hash(cells, 14)
    setback = 5.0 + 4.0 * unit_hash(block, 15)
    front = distance < 20.0
    moved = np.where(front, setback + 0.5 * length - distance, 0.0)
    centers = places + moved[:, None] * away
    tall = np.where(unit_hash(block, 16) < 0.45, 6.0, 2.5) + np.where(front, 0.0, 3.0)
    storeys = 1.0 + np.floor(tall * (0.4 + 0.6 * unit_hash(cells, 17)))
    yaws = np.arctan2(-away[:, 1], -away[:, 0])
    built = _built(
        centers, [length, width, storeys * STOREY_M + 0.8], ground_m, yaws, cells, code=BUILDING
    )
    return built.select(_least_clearance(side, built) > BUILDING_CLEARANCE_M + CLEARANCE_ERROR_M)


def _trees(side: Roadside, low_m: FloatArray, size_m: float) -> Scenery:
    """Rows along avenues, and groups farther from the road."""
    cells, places = _lattice(low_m, size_m, ORCHARD_M, 20)
    distance = side.clearance_at(places)
    avenue = unit_hash(cells // 10, 22) < 0.6
    row = avenue & (distance < 8.0) & (distance > 0.5) & (unit_hash(cells, 23) < 0.7)
    row &= side.junction_distance_at(places) > CLEAR_VIEW_M
    yard = (distance > 8.0) & (distance < 50.0) & (unit_hash(cells, 23) < 0.35)
    keep = row | yard
    cells, places, distance, row = cells[keep], places[keep], distance[keep], row[keep]
    away, ground_m = _away(side, places), side.height_at(places)
    crown = 3.0 + 2.5 * unit_hash(cells, 24)
    moved = np.where(row, CROWN * crown + 1.0 - distance, 0.0)
    height = 1.6 * crown + 1.5 + unit_hash(cells, 25)
    yaws = 2 * np.pi * unit_hash(cells, 26)
    grown = _built(
        places + moved[:, None] * away, [crown, crown, height], ground_m, yaws, cells, code=TREE
    )
    clearance = side.clearance_at(grown.centers_m)
    return grown.select(clearance > CROWN * crown + CLEARANCE_ERROR_M)


def _posts(side: Roadside, low_m: FloatArray, size_m: float) -> Scenery:
    """Lamp posts along the kerb."""
    cells, places = _lattice(low_m, size_m, POST_M, 30)
    distance = side.clearance_at(places)
    keep = (distance > 0.3) & (distance < 14.0)
    cells, places, distance = cells[keep], places[keep], distance[keep]
    away, ground_m = _away(side, places), side.height_at(places)
    count = len(cells)
    centers = places + (POST_CLEARANCE_M + CLEARANCE_ERROR_M - distance)[:, None] * away
    yaws = np.arctan2(-away[:, 1], -away[:, 0])
    size = [np.full(count, 0.18), np.full(count, 0.18), np.full(count, 7.5)]
    posts = _built(centers, size, ground_m, yaws, cells, code=POST)
    return posts.select(side.clearance_at(posts.centers_m) > CLEARANCE_ERROR_M)


def _built(
    places_m: FloatArray,
    sizes_m: list[FloatArray],
    ground_m: FloatArray,
    yaws_rad: FloatArray,
    cells: npt.NDArray[np.int64],
    *,
    code: int,
) -> Scenery:
    """Puts boxes of the given length, width and height above ground on their places."""
    length, width, height = sizes_m
    deep = height + FOUNDATION_M
    return Scenery(
        centers_m=np.column_stack([places_m, ground_m + height - 0.5 * deep]),
        sizes_m=np.column_stack([length, width, deep]),
        yaws_rad=yaws_rad,
        codes=np.full(len(cells), code, np.uint8),
        looks=(unit_hash(cells, 40) * 2**31).astype(np.int32),
    )


def _least_clearance(side: Roadside, boxes: Scenery) -> FloatArray:
    """Returns the (n,) clearance of footprints, measured at 8 x 8 places of each.

    Places are at most 2.8 m apart, so that nothing mapped comes nearer than 2 m less than this.
    """
    grid = np.linspace(-0.5, 0.5, 8)
    u, v = np.meshgrid(grid, grid)
    along, across = u.ravel() * boxes.sizes_m[:, :1], v.ravel() * boxes.sizes_m[:, 1:2]
    cos, sin = np.cos(boxes.yaws_rad)[:, None], np.sin(boxes.yaws_rad)[:, None]
    x = boxes.centers_m[:, :1] + cos * along - sin * across
    y = boxes.centers_m[:, 1:2] + sin * along + cos * across
    clearance: FloatArray = side.clearance_at(np.stack([x, y], axis=-1)).min(axis=1, initial=np.inf)
    return clearance


def _inside(small: Scenery, buildings: Scenery) -> npt.NDArray[np.bool_]:
    """True where a small thing stands in a building, or half of it does."""
    if len(buildings) == 0:
        return np.zeros(len(small), np.bool_)
    offset = small.centers_m[:, None, :2] - buildings.centers_m[None, :, :2]
    cos, sin = np.cos(buildings.yaws_rad), np.sin(buildings.yaws_rad)
    along = np.abs(cos * offset[..., 0] + sin * offset[..., 1]) - 0.5 * buildings.sizes_m[:, 0]
    across = np.abs(cos * offset[..., 1] - sin * offset[..., 0]) - 0.5 * buildings.sizes_m[:, 1]
    radius = 0.5 * small.sizes_m[:, :1]
    hit: npt.NDArray[np.bool_] = np.any((along < radius) & (across < radius), axis=1)
    return hit


def _joined(parts: list[Scenery]) -> Scenery:
    return Scenery(
        np.concatenate([part.centers_m for part in parts]),
        np.concatenate([part.sizes_m for part in parts]),
        np.concatenate([part.yaws_rad for part in parts]),
        np.concatenate([part.codes for part in parts]),
        np.concatenate([part.looks for part in parts]),
    )
