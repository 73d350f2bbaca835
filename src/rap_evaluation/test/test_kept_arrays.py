"""Kept arrays: made once, found by all that decides them, never half there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rap_evaluation import kept_arrays
from rap_evaluation.kept_arrays import KEEP_NOTHING, KeptArrays, content_digest
from rap_evaluation.planners import camera_view
from rap_evaluation.planners.camera_view import CameraView
from rap_raster.camera import CameraModel
from rap_raster.frames import Pose
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import Boxes, Lights, ObjectClass, PolygonKind, Shapes

MADE = np.arange(6, dtype=np.uint8).reshape(2, 3)
ROAD = [[-20.0, -4.0, 0.0], [60.0, -4.0, 0.0], [60.0, 4.0, 0.0], [-20.0, 4.0, 0.0]]
MAP = VectorMap("road", Shapes.from_list([]), Shapes.from_list([(PolygonKind.DRIVABLE, ROAD)]), {})
FORWARD = np.array([[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]], dtype=float)
CAMERA = CameraModel("front", 32, 16, 20.0, 20.0, 15.5, 7.5, FORWARD)
CAR = (7, ObjectClass.VEHICLE, 15.0, 0.0, 0.8, 4.5, 1.9, 1.6, 0.0, 3.0, 0.0)
EGO = Pose(0.0, 0.0, 0.0, 0.0)


def refuse() -> np.ndarray:
    raise AssertionError("made again")


def test_what_is_kept_is_not_made_again(tmp_path):
    KeptArrays(tmp_path).array("a", lambda: MADE, lambda: (1, "x"))
    kept = KeptArrays(tmp_path).array("a", refuse, lambda: (1, "x"))
    assert kept.dtype == MADE.dtype
    np.testing.assert_array_equal(kept, MADE)
    with pytest.raises(AssertionError):
        KeptArrays(tmp_path).array("b", refuse, lambda: (1, "x"))


def test_without_a_folder_nothing_is_kept_nor_asked():
    assert KEEP_NOTHING.array("a", lambda: MADE, refuse) is MADE


def test_different_parts_have_different_digests():
    parts = [(1, 2), (12,), ("1", "2"), ("12",), (MADE,), (MADE.reshape(3, 2),),
             (MADE.astype(np.int8),), (MADE.T,), (2, 1)]  # fmt: skip
    assert len({content_digest(each) for each in parts}) == len(parts)
    assert content_digest([np.asfortranarray(MADE)]) == content_digest([MADE])


def test_a_process_that_dies_while_keeping_leaves_nothing_that_is_found(tmp_path, monkeypatch):
    def dies(file, array):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(kept_arrays.np, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        KeptArrays(tmp_path).array("a", lambda: MADE, lambda: (1,))
    monkeypatch.undo()
    np.testing.assert_array_equal(KeptArrays(tmp_path).array("a", lambda: MADE, lambda: (1,)), MADE)


@pytest.mark.parametrize("left", [b"", b"\x93NUMPY", b"half of it"])
def test_a_damaged_file_is_made_again(tmp_path, left):
    KeptArrays(tmp_path).array("a", lambda: MADE, lambda: (1,))
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(left)
    for make in (lambda: MADE, refuse):
        np.testing.assert_array_equal(KeptArrays(tmp_path).array("a", make, lambda: (1,)), MADE)


def look(folder, *, where=MAP, camera=CAMERA, ego=EGO, car=CAR, seed=1, frame=0):
    view = CameraView(where, [camera], KeptArrays(folder))
    return view.images(ego, Boxes.from_rows([car]), Lights.empty(), seed=seed, frame=frame)


def test_kept_pictures_are_those_that_are_taken(tmp_path, monkeypatch):
    taken = look(None)
    np.testing.assert_array_equal(look(tmp_path), taken)
    monkeypatch.setattr(camera_view, "CameraSimulator", refuse)
    np.testing.assert_array_equal(look(tmp_path), taken)


@pytest.mark.parametrize(
    "change",
    [
        {"where": replace(MAP, polygons=Shapes.from_list([(PolygonKind.DRIVABLE, ROAD[:3])]))},
        {"camera": replace(CAMERA, fx=21.0)},
        {"ego": Pose(0.5, 0.0, 0.0, 0.0)},
        {"car": (*CAR[:3], 1.0, *CAR[4:])},
        {"car": (*CAR[:-2], 0.0, 0.0)},  # Lights its brake lights.
        {"seed": 2},
        {"frame": 1},
    ],
)
def test_whatever_changes_the_picture_is_no_kept_one(tmp_path, change):
    before = look(tmp_path)
    changed = look(tmp_path, **change)
    assert (changed != before).any()
    np.testing.assert_array_equal(changed, look(None, **change))
