"""Images that the cameras of logs took, and the rasters beside them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from rap_bringup.drives.dgp import read_dgp
from rap_bringup.drives.recorded_drive import CameraImage, RecordedCamera
from rap_evaluation.logged_cameras import LoggedRig
from rap_evaluation.logs.drive_log import DriveLog, LogError
from rap_evaluation.logs.drive_recording import recording_of
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.moments import Moment
from rap_evaluation.open_loop import LogDriver, open_loop_report
from rap_inference.bundle import load_bundle
from rap_perception.rig import RigError
from rap_raster.camera import CameraModel, Distortion, optical_rotation
from rap_raster.encoder import nominal_rig as nominal_rig_of
from rap_raster.geometry import build_geometry
from rap_raster.rasterizer import render
from rap_raster.styles import Style, load_style
from rap_training.augmentation.mixture import MixtureError, mixture_of
from rap_training.commands import app
from rap_training.config import TrainingConfig
from rap_training.dataset import DriveDataset
from rap_training.rig import NOMINAL_RIG, nominal_rig

BUNDLE = Path(__file__).parents[3] / "models" / "default"
DATA = Path(os.environ.get("RAP_DATA", Path(__file__).parents[4] / "shared" / "data"))
STYLE = load_style("semantic")
SIZE = (256, 128)
SLOTS = nominal_rig(SIZE)
LATE_NS = 40_000_000
LENSES = {
    "radial": Distortion("plumb_bob", (-0.3, 0.08, 0.0, 0.0)),
    "fisheye": Distortion("equidistant", (0.05, -0.01, 0.0, 0.0)),
}


def camera(name: str, yaw_deg: float = 0.0, lens: Distortion | None = None) -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = optical_rotation(np.deg2rad(yaw_deg)), (1.5, 0.1, 1.4)
    return CameraModel(name, 640, 360, 400.0, 400.0, 322.0, 178.0, pose, lens)


def log_with(recording, path: Path, *cameras: tuple[CameraModel, list[CameraImage]]) -> DriveLog:
    recorded = tuple(RecordedCamera(model, tuple(images)) for model, images in cameras)
    write_log(path, replace(recording, cameras=recorded))
    return DriveLog.open(path)


def grey(recording, count: int = 60, width: int = 640) -> list[CameraImage]:
    """Images of the first steps of a recording."""
    jpeg = cv2.imencode(".jpg", np.full((360, width, 3), 90, np.uint8))[1].tobytes()
    return [CameraImage(int(stamp), jpeg) for stamp in recording.stamps_ns[:count]]


def dataset(log: DriveLog, *, share: float = 1.0, length: int = 40, **sources: float):
    weights = {"ego": 1.0, "recovery": 0.0, "cross_agent": 0.0} | sources
    data = {
        "image_size": SIZE,
        "sources": {name: {"weight": weight} for name, weight in weights.items()},
        "cameras": {"share": share, "images": "logged"},
    }
    config = TrainingConfig.model_validate({"data": data})
    return DriveDataset(mixture_of([log], config.data.sources, config.model), config, length)


def raster_images(
    log: DriveLog, model: CameraModel, late_ns: int, style: Style = STYLE, count: int = 100
) -> list[CameraImage]:
    """Images of a camera whose world is a raster, taken a little after each step."""
    images = []
    for step in range(count):
        stamp_ns = int(log.stamps_ns[step]) + late_ns
        scene = log.scene_at(stamp_ns, log.egos[0])
        seen = render(build_geometry(scene, style), model)["rgb"]
        png = cv2.imencode(".png", np.ascontiguousarray(seen[..., ::-1]))[1].tobytes()
        images.append(CameraImage(stamp_ns, png))
    return images


def differing(first: np.ndarray, second: np.ndarray) -> float:
    return float((np.abs(first.astype(int) - second).max(axis=-1) > 8).mean())


def test_the_raster_is_of_the_time_of_the_image(town_log, town_recording, tmp_path):
    """Ego and others have moved on since the step; the sample's own ego frame is of the step."""
    model = camera("f").resized(*SIZE)
    images = raster_images(town_log, model, LATE_NS)
    drawn = dataset(log_with(town_recording, tmp_path, (model, images))).drawn(range(40))
    in_time, at_the_step = [], []
    for shown in drawn:
        in_time.append(differing(shown.sample.images[0], shown.sample.rasters[0]))
        usual = render(shown.situation.geometry(STYLE), model)["rgb"]
        at_the_step.append(differing(shown.sample.images[0], usual))
        moved_m = shown.rig[0].ego_from_camera[0, 3] - model.ego_from_camera[0, 3]
        assert moved_m == pytest.approx(shown.situation.ego.vx_mps * LATE_NS * 1e-9, abs=0.02)
    assert max(in_time) < 1e-3
    assert np.mean(at_the_step) > 10.0 * np.mean(in_time)


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
def test_the_lens_is_undone(town_recording, tmp_path, lens):
    """A lamp is where the calibration of the sample has it, not where the lens has put it."""
    model, lamp_m = camera("f", lens=lens), np.array([9.0, 4.0, 2.5])
    fisheye = lens.model == "equidistant"
    project = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints
    in_camera = (np.linalg.inv(model.ego_from_camera) @ [*lamp_m, 1.0])[:3].reshape(1, 1, 3)
    still = np.zeros(3), np.zeros(3)
    places = (model.intrinsics, np.array(lens.coeffs))
    u, v = project(in_camera, *still, *places)[0].ravel()
    picture = np.zeros((360, 640), np.uint8)
    cv2.circle(picture, (round(16 * u), round(16 * v)), 16 * 8, 255, -1, cv2.LINE_AA, shift=4)
    png = cv2.imencode(".png", picture)[1].tobytes()
    images = [CameraImage(int(stamp), png) for stamp in town_recording.stamps_ns[:60]]
    shown = dataset(log_with(town_recording, tmp_path, (model, images))).drawn([0])[0]
    bright = shown.sample.images[0, ..., 0].astype(float)
    found = [np.average(axis, weights=bright) for axis in np.indices(bright.shape)[::-1]]
    x, y, depth = shown.sample.image_from_ego[0] @ [*lamp_m, 1.0]
    assert found == pytest.approx([x / depth, y / depth], abs=0.3)
    straight = model.intrinsics @ in_camera.ravel()
    assert np.hypot(*(straight[:2] / straight[2] - [u, v])) > 10.0


def test_slots_without_a_camera_are_never_there(town_recording, tmp_path):
    """The left camera looks where a slot does, the one behind where none does."""
    pictures = grey(town_recording)
    cameras = ((camera(name, yaw), pictures) for name, yaw in (("behind", 180.0), ("l", 50.0)))
    log = log_with(town_recording, tmp_path, *cameras)
    batch = dataset(log, share=0.5, cross_agent=1.0).batch(range(40))
    assert batch["camera_valid"].unique(dim=0).tolist() == [[0.0, 1.0, 0.0]]
    assert set(batch["source"].tolist()) == {0, 2}
    shown = batch["has_images"] > 0
    assert 5 < shown.sum() < 35
    assert set(batch["source"][shown].tolist()) == {0}
    assert (batch["images"][shown][:, 1] > 80).all()
    assert not batch["images"][shown][:, [0, 2]].any()
    assert not batch["images"][~shown].any()


def test_rasters_alone_are_seen_through_the_cameras_of_the_log_as_well(town_recording, tmp_path):
    log = log_with(town_recording, tmp_path, (camera("f"), grey(town_recording)))
    rig = LoggedRig(log, SLOTS)
    own, seat = log.dimensions(log.egos[0]), log.dimensions(log.seats()[-1])
    front, *others = rig.rig(own)
    np.testing.assert_allclose(front.ego_from_camera, camera("f").ego_from_camera)
    assert front.fx == pytest.approx(0.4 * 400.0)  # 640 pixels become 256.
    assert [front.name, *(c.name for c in others)] == [c.name for c in NOMINAL_RIG]
    higher = rig.rig(replace(own, height_m=2.0 * own.height_m))[0]
    assert higher.ego_from_camera[2, 3] == pytest.approx(2.0 * 1.4)
    assert len(rig.rig(seat)) == len(NOMINAL_RIG)
    rigs = [shown.rig for shown in dataset(log, share=0.0).drawn(range(20))]
    assert np.mean([c.fx for c, *_ in rigs]) == pytest.approx(160.0, rel=0.1)


def test_moments_are_those_at_which_all_cameras_took_images(town_recording, tmp_path):
    missing = grey(town_recording)
    del missing[20:40]
    cameras = (camera("f"), missing), (camera("l", 65.0), grey(town_recording, 50))
    log = log_with(town_recording, tmp_path, *cameras)
    rig, ego = LoggedRig(log, SLOTS), log.egos[0]
    found = [step for step in range(80) if rig.has_photo(Moment(log, ego, step))]
    assert found == [*range(20), *range(40, 50)]
    assert not rig.has_photo(Moment(log, log.seats()[-1], 0))
    drawn = dataset(log).drawn(range(40))
    assert {shown.situation.moment.step for shown in drawn} <= set(found)


def test_an_index_always_gives_the_same_bytes(town_recording, tmp_path):
    log = log_with(town_recording, tmp_path, (camera("f"), grey(town_recording)))
    first, second = (dataset(log, share=0.5, recovery=0.5) for _ in range(2))
    together, alone = first.batch(range(12)), [second[index] for index in (11, 3)]
    for index, sample in zip((11, 3), alone, strict=True):
        assert all(torch.equal(together[name][index], sample[name]) for name in sample)


def test_images_of_another_size_than_the_calibration_are_named(town_recording, tmp_path):
    log = log_with(town_recording, tmp_path, (camera("f"), grey(town_recording, width=100)))
    with pytest.raises(LogError, match=r"^Town01-seed3: image of f at \d+ ns: ") as caught:
        dataset(log)[0]
    assert "\n" not in str(caught.value)


def test_an_image_that_is_none_is_missed_and_named(town_recording, tmp_path):
    """As on the road, where one bad frame ends no drive."""
    broken = [replace(image, jpeg=image.jpeg[:-40]) for image in grey(town_recording)]
    cameras = (camera("f"), broken), (camera("l", 65.0), grey(town_recording))
    log = log_with(town_recording, tmp_path, *cameras)
    with pytest.warns(UserWarning, match=r"image of f at \d+ ns is left out: .*cut off"):
        sample = dataset(log)[0]
    assert sample["camera_valid"].tolist() == [0.0, 1.0, 0.0]
    assert not sample["images"][0].any()
    assert sample["images"][1].any()


@pytest.mark.parametrize(("half_step_ns", "count"), [(-50_000_000, 0), (49_000_000, 59)])
def test_images_half_a_step_off_are_of_no_step(town_recording, tmp_path, half_step_ns, count):
    images = [replace(i, stamp_ns=i.stamp_ns + half_step_ns) for i in grey(town_recording, 59)]
    log = log_with(town_recording, tmp_path, (camera("f"), images))
    rig = LoggedRig(log, SLOTS)
    moments = [Moment(log, log.egos[0], step) for step in range(80)]
    photos = [rig.photo(moment) for moment in moments if rig.has_photo(moment)]
    assert len(photos) == count


def test_sources_tells_who_fills_which_slot_and_how_many_steps_can_be_used(
    town_recording, tmp_path
):
    cameras = (camera("ahead"), grey(town_recording, 30)), (camera("l", 65.0), grey(town_recording))
    log_with(town_recording, tmp_path / "log", *cameras)
    config = tmp_path / "own.yaml"
    config.write_text("name: own\ndata:\n  cameras: {images: logged}\n")
    options = ["--logs", str(tmp_path), "--config", str(config), "--tries", "1"]
    printed = CliRunner().invoke(app, ["sources", *options], env={"COLUMNS": "160"}).stdout
    (row,) = [line for line in printed.splitlines() if "ahead" in line]
    cells = [cell.strip() for cell in row.split("│")]
    assert "90" in cells  # images
    assert "front: ahead, front_left: l" in cells
    assert "30" in cells  # steps with images of both


def test_the_same_slots_can_be_wanted_as_on_the_vehicle(town_recording, tmp_path):
    """A second camera that looks ahead, a little straighter, would take the place of the first."""
    cameras = [
        (camera(name, yaw), grey(town_recording)) for name, yaw in (("wide", 2.0), ("tele", 1.0))
    ]
    log = log_with(town_recording, tmp_path, *cameras)
    assert LoggedRig(log, SLOTS).cameras == {"front": "tele"}
    assert LoggedRig(log, SLOTS, {"wide": "front", "gone": "front_left"}).cameras == {
        "front": "wide"
    }
    with pytest.raises(RigError, match=r"cameras\.slots: 'rear' is not a slot"):
        LoggedRig(log, SLOTS, {"wide": "rear"})


@pytest.mark.skipif(not BUNDLE.is_dir(), reason="models/default is not there: run make bundle")
def test_open_loop_looks_at_the_images_of_the_log(town_log, town_recording, tmp_path):
    """Cameras like those of the bundle, whose world is a raster: its plans are those on rasters."""
    bundle = load_bundle(BUNDLE)
    rig, style = nominal_rig_of(bundle), load_style(bundle.manifest.style)
    cameras = [(model, raster_images(town_log, model, 0, style, 12)) for model in rig]
    log = log_with(town_recording, tmp_path / "all", *cameras)
    on_rasters, on_images = (LogDriver(bundle, sensor) for sensor in ("raster", "logged"))
    moments = [Moment(log, log.egos[0], step) for step in (0, 11, 12)]
    assert [on_images.sees(moment) for moment in moments] == [True, True, False]
    for moment in moments[:2]:
        (same, scores), (expected, wanted) = (d.plan(moment) for d in (on_images, on_rasters))
        np.testing.assert_allclose(same, expected, atol=0.02)
        np.testing.assert_allclose(scores, wanted, atol=0.01)

    ahead_alone = log_with(town_recording, tmp_path / "one", cameras[0])
    found, _ = on_images.plan(Moment(ahead_alone, log.egos[0], 0))
    assert np.abs(found - on_rasters.plan(moments[0])[0]).max() > 0.1
    with pytest.raises(LogError, match="no moment has images of all cameras"):
        open_loop_report(on_images, [town_log])


def test_the_images_of_a_training_are_as_many_as_there_are(town_recording, tmp_path):
    log = log_with(town_recording, tmp_path, (camera("f"), grey(town_recording)))
    drawn = dataset(log, length=200).drawn(range(200))
    assert len({shown.situation.moment.step for shown in drawn}) > 30


@pytest.mark.parametrize("yaw_deg", [None, 180.0])
def test_logs_without_a_camera_for_any_slot_say_so(town_log, town_recording, tmp_path, yaw_deg):
    log = town_log
    if yaw_deg is not None:
        log = log_with(town_recording, tmp_path, (camera("b", yaw_deg), grey(town_recording)))
    with pytest.raises(MixtureError, match=r"data\.cameras\.images: logged, but no log"):
        dataset(log)
    valid = dataset(log, share=0.0).batch(range(40))["camera_valid"]
    assert valid.sum() > 0.9 * valid.numel()  # Seen through the nominal rig.


@pytest.mark.data
def test_real_cameras_fill_the_slots_they_look_like(tmp_path):
    if not (DATA / "dgp").is_dir():
        pytest.skip(f"no driving data at {DATA}")
    write_log(tmp_path, recording_of(read_dgp(DATA / "dgp" / "scene_02")))
    log = DriveLog.open(tmp_path)
    rig = LoggedRig(log, SLOTS)
    assert rig.filled.all()
    moments = [Moment(log, log.egos[0], step) for step in range(len(log.stamps_ns))]
    photos = [rig.photo(moment) for moment in moments if rig.has_photo(moment)]
    assert len(photos) == 3
    for photo in photos:
        assert (photo.images.std(axis=(1, 2, 3)) > 10.0).all()
        assert render(photo.geometry(STYLE), photo.rig[0])["rgb"].shape == photo.images[0].shape
