"""Kept images are found by all that decides them, and never trusted when damaged."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from rap_evaluation import camera_sim
from rap_evaluation.logs.drive_log import DriveLog
from rap_raster.frames import Pose
from rap_raster.scene import Boxes, Lights
from rap_training.image_store import ImageStore
from rap_training.rig import NOMINAL_RIG

CAMERA = NOMINAL_RIG[0].resized(32, 16)
BOX = [4, 2, 15.0, 6.0, 1.5, 8.0, 3.0, 3.0, 0.0, 0.0, 0.0]


class Scene:
    """Noise of a seed in place of a situation; counts how often it is asked for."""

    def __init__(self, town: str = "Town01", pose: Pose | None = None, box: tuple = ()) -> None:
        self.moment = SimpleNamespace(log=SimpleNamespace(pictured_digest=town))
        self.ego = SimpleNamespace(pose=pose or Pose(1.0, 2.0, 0.0, 0.5))
        row = BOX.copy()
        for column, value in box:
            row[column] = value
        self.boxes = Boxes.from_rows([row])
        self.lights = Lights(
            states=np.array([30], np.uint8),
            centers_m=np.array([[20.0, 0.0, 5.0]]),
            sizes_m=np.array([[0.3, 0.3, 1.0]]),
            yaws_rad=np.zeros(1),
        )
        self.made = 0

    def camera_image(self, camera, seed: int) -> np.ndarray:
        self.made += 1
        shape = (camera.height, camera.width, 3)
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def files(folder) -> list:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_image_has_the_same_bytes_made_or_kept(tmp_path):
    scene, store = Scene(), ImageStore(tmp_path)
    made, kept = (store.image(scene, CAMERA, 3) for _ in range(2))
    assert scene.made == 1
    assert kept.dtype == np.uint8
    np.testing.assert_array_equal(made, kept)
    np.testing.assert_array_equal(kept, Scene().camera_image(CAMERA, 3))
    later = ImageStore(tmp_path).image(same := Scene(), CAMERA, 3)  # Another training.
    assert same.made == 0
    np.testing.assert_array_equal(later, made)
    assert len(files(tmp_path)) == 1  # And nothing half written is left.


def turned(camera):
    pose = camera.ego_from_camera.copy()
    pose[0, 3] += 1e-9
    return replace(camera, ego_from_camera=pose)


@pytest.mark.parametrize(
    ("scene", "camera", "seed"),
    [
        (Scene(), CAMERA, 4),
        (Scene("Town02"), CAMERA, 3),
        (Scene(pose=Pose(1.0, 2.0, 0.0, 0.5 + 1e-9)), CAMERA, 3),
        (Scene(pose=Pose(1.0, 2.0, 0.1, 0.5)), CAMERA, 3),
        (Scene(box=((0, 5),)), CAMERA, 3),
        (Scene(box=((1, 1),)), CAMERA, 3),
        (Scene(box=((2, 15.001),)), CAMERA, 3),
        (Scene(box=((5, 8.001),)), CAMERA, 3),
        (Scene(box=((8, 0.001),)), CAMERA, 3),
        (Scene(), NOMINAL_RIG[1].resized(32, 16), 3),
        (Scene(), NOMINAL_RIG[0].resized(64, 32), 3),
        (Scene(), replace(CAMERA, fx=CAMERA.fx + 1e-6), 3),
        (Scene(), replace(CAMERA, cy=CAMERA.cy + 1e-6), 3),
        (Scene(), turned(CAMERA), 3),
    ],
    ids=["seed", "town", "yaw", "height", "id", "class", "place", "size", "turn", "camera",
         "image size", "focal length", "principal point", "mounting"],
)  # fmt: skip
def test_whatever_changes_the_image_makes_it_another_one(tmp_path, scene, camera, seed):
    store = ImageStore(tmp_path)
    store.image(Scene(), CAMERA, 3)
    before = scene.made
    image = store.image(scene, camera, seed)
    assert scene.made == before + 1
    assert image.shape == (camera.height, camera.width, 3)
    assert len(files(tmp_path)) == 2


def test_another_light_makes_another_image(tmp_path):
    store, green, moved = ImageStore(tmp_path), Scene(), Scene()
    store.image(Scene(), CAMERA, 3)
    green.lights = replace(green.lights, states=np.array([32], np.uint8))
    moved.lights = replace(moved.lights, centers_m=moved.lights.centers_m + 0.1)
    for scene in (green, moved):
        store.image(scene, CAMERA, 3)
        assert scene.made == 1


@pytest.mark.parametrize(
    "damage",
    [lambda png: b"", lambda png: b"no image", lambda png: png[: len(png) // 2],
     lambda png: png[:-30], lambda png: png[:200] + b"\0" * 60 + png[260:]],
    ids=["empty", "text", "half", "without its end", "overwritten in the middle"],
)  # fmt: skip
def test_a_damaged_file_is_made_again(tmp_path, damage):
    store = ImageStore(tmp_path)
    made = store.image(Scene(), CAMERA, 3)
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    scene = Scene()
    np.testing.assert_array_equal(store.image(scene, CAMERA, 3), made)
    assert scene.made == 1
    assert path.read_bytes() == whole


def kept_names(folder, log) -> set[str]:
    scene = Scene()
    scene.moment = SimpleNamespace(log=log)
    ImageStore(folder).image(scene, CAMERA, 3)
    return {path.name for path in files(folder)}


def test_pictures_of_an_older_simulator_are_made_anew(tmp_path, town_logs, monkeypatch):
    first = kept_names(tmp_path, DriveLog.open(town_logs / "town"))
    assert kept_names(tmp_path, DriveLog.open(town_logs / "town")) == first
    monkeypatch.setattr(camera_sim, "VERSION", camera_sim.VERSION + 1)
    both = kept_names(tmp_path, DriveLog.open(town_logs / "town"))
    assert len(both) == 2


@pytest.mark.parametrize("shapes", ["polylines", "polygons"])
def test_pictures_of_a_map_that_changed_under_its_name_are_made_anew(tmp_path, town_logs, shapes):
    log, changed = (DriveLog.open(town_logs / "town") for _ in range(2))
    first = kept_names(tmp_path, log)
    moved = getattr(changed.map, shapes)
    moved = replace(moved, points_m=moved.points_m + np.array([0.0, 0.0, 1e-9]))
    changed.map = replace(changed.map, **{shapes: moved})
    assert len(kept_names(tmp_path, changed) - first) == 1
