from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from rap_bringup.drives.dgp import read_dgp
from rap_bringup.drives.recorded_drive import CameraImage, RecordedCamera
from rap_evaluation.logs.drive_log import DriveLog, LogError
from rap_evaluation.logs.drive_recording import recording_of
from rap_evaluation.logs.log_writer import write_log
from rap_raster.camera import CameraModel, Distortion, optical_rotation
from rap_raster.styles import load_style
from rap_training.augmentation.mixture import mixture_of
from rap_training.config import DataConfig, TrainingConfig
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
    log = log_with_images(town_recording, tmp_path, [jpeg()] * 20, camera())
    pairs = LoggedPairs([log], STYLE)
    assert 0 < len(pairs) <= 20
    pair = pairs[len(pairs) - 1]
    assert pair.image.shape == pair.raster.shape == (160, 320, 3)
    stamp_ns = int(pair.origin.split()[-2])
    ego = log.egos[0]
    step = int(np.searchsorted(log.stamps_ns, stamp_ns)) - 1
    between = log.scene_at(stamp_ns, ego).ego
    ends = log.ego_state(step, ego), log.ego_state(step + 1, ego)
    assert between.x_m == pytest.approx(0.5 * (ends[0].x_m + ends[1].x_m), abs=1e-6)


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


def test_simulated_pairs_show_the_same_cars_in_both_pictures(town_log):
    mixture = mixture_of([town_log], CONFIG.data.sources, CONFIG.model)
    pairs = SimulatedPairs(mixture, CONFIG)
    rng = np.random.default_rng(3)
    for _ in range(5):
        pair = pairs.pair(rng)
        assert pair.image.shape == pair.raster.shape == (32, 64, 3)
        assert pair.image.std() > 5.0
        assert pair.raster.any()


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
def test_real_images_and_their_rasters_show_the_same_boxes(tmp_path):
    if not (DATA / "dgp").is_dir():
        pytest.skip(f"no driving data at {DATA}")
    write_log(tmp_path, recording_of(read_dgp(DATA / "dgp" / "scene_02")))
    log = DriveLog.open(tmp_path)
    pairs = LoggedPairs([log], STYLE)
    assert len(pairs) == 18  # 3 instants of 6 cameras.
    assert all(pairs[i].raster.shape == (1216, 1936, 3) for i in (0, 17))
    assert sum(bool(pairs[i].raster.any()) for i in range(18)) > 6
