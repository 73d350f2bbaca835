from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from source_draws import situations

from rap_bringup.drives.dgp import read_dgp
from rap_bringup.drives.recorded_drive import CameraImage, RecordedCamera
from rap_evaluation.logs.drive_log import DriveLog, LogError
from rap_evaluation.logs.drive_recording import recording_of
from rap_evaluation.logs.log_writer import write_log
from rap_raster.camera import CameraModel, Distortion, optical_rotation
from rap_raster.geometry import build_geometry
from rap_raster.rasterizer import render
from rap_raster.scene import Boxes, ObjectClass
from rap_raster.styles import load_style
from rap_training.augmentation.mixture import mixture_of
from rap_training.augmentation.recorded import EgoSource
from rap_training.config import DataConfig, EgoConfig, TrainingConfig
from rap_training.pairs import LoggedPairs, PairDataset, SimulatedPairs

DATA = Path(os.environ.get("RAP_DATA", Path(__file__).parents[4] / "shared" / "data"))
STYLE = load_style("semantic")
CONFIG = TrainingConfig(data=DataConfig(image_size=(64, 32)))


def camera() -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3], pose[2, 3] = optical_rotation(0.0), 1.5
    return CameraModel("front", 320, 160, 150.0, 150.0, 159.5, 79.5, pose)


def log_with_images(recording, path: Path, jpegs: list[bytes], model: CameraModel) -> DriveLog:
    """The town with pictures taken in the middle between its first steps."""
    stamps = recording.stamps_ns[: len(jpegs)] + 50_000_000
    images = tuple(CameraImage(int(s), j) for s, j in zip(stamps, jpegs, strict=True))
    write_log(path, replace(recording, cameras=(RecordedCamera(model, images),)))
    return DriveLog.open(path)


def jpeg(width: int = 320, height: int = 160) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def test_the_raster_is_of_the_images_own_time(town_recording, tmp_path):
    log = log_with_images(town_recording, tmp_path, [jpeg()] * 60, camera())
    ego = log.egos[0]
    step = int(np.argmax(np.hypot(*log.ego_states(ego).velocities_mps[:59].T)))
    stamp_ns = int(log.stamps_ns[step]) + 50_000_000
    scenes = [log.scene(step, ego), log.scene_at(stamp_ns, ego), log.scene(step + 1, ego)]
    before, between, after = (scene.ego.x_m for scene in scenes)
    assert between == pytest.approx(0.5 * (before + after), abs=1e-6)
    pairs = LoggedPairs([log], STYLE)
    pair = next(pairs[i] for i in range(len(pairs)) if pairs[i].origin.endswith(f" {stamp_ns} ns"))
    same = [
        np.array_equal(pair.raster, render(build_geometry(scene, STYLE), camera())["rgb"])
        for scene in scenes
    ]
    assert same == [False, True, False]


def test_the_raster_is_drawn_through_the_lens_of_the_camera(town_recording, tmp_path):
    lens = Distortion("plumb_bob", (-0.3, 0.08, 0.0, 0.0))
    bent = replace(camera(), distortion=lens)
    straight, curved = (
        LoggedPairs([log_with_images(town_recording, tmp_path / name, [jpeg()] * 5, model)], STYLE)[
            0
        ].raster
        for name, model in (("a", camera()), ("b", bent))
    )
    # What the lens does to a raster, OpenCV does to the picture of the same road.
    matrix = np.array([[150.0, 0, 159.5], [0, 150.0, 79.5], [0, 0, 1]])
    maps = cv2.initUndistortRectifyMap(
        matrix, np.array([-0.3, 0.08, 0, 0]), None, matrix, (320, 160), cv2.CV_32FC1
    )
    undone = cv2.remap(curved, *maps, cv2.INTER_LINEAR)
    middle = (slice(20, 140), slice(40, 280))
    closer = np.abs(undone.astype(int) - straight)[middle].mean()
    assert closer < 0.3 * np.abs(curved.astype(int) - straight)[middle].mean()


def test_pairs_come_in_the_size_that_is_asked_for(town_recording, tmp_path):
    log = log_with_images(town_recording, tmp_path, [jpeg()] * 5, camera())
    pair = LoggedPairs([log], STYLE, (64, 32))[0]
    assert pair.image.shape == pair.raster.shape == (32, 64, 3)
    assert (pair.camera.width, pair.camera.height) == (64, 32)


@pytest.mark.parametrize("bad", [b"no image", jpeg(100, 50)])
def test_an_image_that_is_none_is_named(town_recording, tmp_path, bad):
    log = log_with_images(town_recording, tmp_path, [bad] * 5, camera())
    with pytest.raises(LogError, match=r"front at \d+ ns: "):
        LoggedPairs([log], STYLE)[0]


class Only:
    """A mixture of one situation."""

    def __init__(self, situation):
        self.sources, self.situation = [], situation

    def draw(self, _rng):
        return self


def trucks_around(ego) -> Boxes:
    """A truck 15 m before each camera of the rig."""
    angles = ego.yaw_rad + np.deg2rad([0.0, 65.0, -65.0])
    away = 15.0 * np.stack([np.cos(angles), np.sin(angles), np.zeros(3)], axis=-1)
    centers_m = away + np.array([ego.x_m, ego.y_m, ego.z_m + 1.6])
    return Boxes(
        np.arange(1, 4, dtype=np.int32), np.full(3, ObjectClass.TRUCK, np.uint8), centers_m,
        np.tile([8.0, 2.5, 3.2], (3, 1)), angles, np.zeros((3, 2)),
    )  # fmt: skip


def test_simulated_pairs_show_the_same_boxes_in_both_pictures(town_log):
    """What changes in the image when all boxes go is where the raster shows them."""
    source = EgoSource([town_log], EgoConfig(), CONFIG.model)
    for seed, situation in enumerate(situations(source, 6)):
        full, empty = (
            SimulatedPairs(Only(replace(situation, boxes=boxes)), CONFIG).pair(
                np.random.default_rng(seed)
            )
            for boxes in (trucks_around(situation.ego), Boxes.empty())
        )
        in_raster = (full.raster != empty.raster).any(axis=-1)
        in_image = np.abs(full.image.astype(int) - empty.image).max(axis=-1) > 8
        assert in_raster.sum() > 60
        assert in_image[in_raster].mean() > 0.9
        assert in_image[~in_raster].mean() < 0.5  # Shadows, and the light they take away.


def test_an_index_always_gives_the_same_pair(town_log, town_recording, tmp_path):
    mixture = mixture_of([town_log], CONFIG.data.sources, CONFIG.model)
    logged = LoggedPairs(
        [log_with_images(town_recording, tmp_path, [jpeg()] * 20, camera())], STYLE, (64, 32)
    )
    sources = [(logged, 0.5), (SimulatedPairs(mixture, CONFIG), 0.5)]
    first, second = (PairDataset(sources, seed=4, length=12) for _ in range(2))
    for index in range(12):
        assert all(torch.equal(first[index][k], second[index][k]) for k in ("image", "raster"))
    means = {float(first[i]["image"].float().std()) < 1.0 for i in range(12)}
    assert means == {True, False}  # Grey pictures of the log, and simulated ones.
    with pytest.raises(LogError, match="no camera images"):
        PairDataset([(LoggedPairs([town_log], STYLE), 1.0)], seed=0, length=1)


@pytest.mark.data
def test_every_real_image_has_a_raster_of_its_size(tmp_path):
    if not (DATA / "dgp").is_dir():
        pytest.skip(f"no driving data at {DATA}")
    write_log(tmp_path, recording_of(read_dgp(DATA / "dgp" / "scene_02")))
    log = DriveLog.open(tmp_path)
    pairs = LoggedPairs([log], STYLE)
    assert len(pairs) == 18  # 3 instants of 6 cameras.
    assert all(pairs[i].raster.shape == (1216, 1936, 3) for i in (0, 17))
    assert sum(bool(pairs[i].raster.any()) for i in range(18)) > 6
