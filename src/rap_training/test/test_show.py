from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from rerun.chunk import RrdReader
from typer.testing import CliRunner

from rap_evaluation.logs.drive_log import DriveLog, LogError, open_logs
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.recording import LightTracks, Recording, Tracks
from rap_raster.camera import CameraModel, Distortion, optical_rotation
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import LineKind, ObjectClass, PolygonKind, Shapes
from rap_raster.styles import load_style
from rap_training.augmentation.mixture import Mixture
from rap_training.augmentation.recorded import EgoSource
from rap_training.augmentation.situation import SourceKind
from rap_training.config import EgoConfig, ModelConfig
from rap_training.show.changes import changes_of
from rap_training.show.choice import Shown, candidates, choose, varied
from rap_training.show.label import draw_dots, draw_ribbon, image_points
from rap_training.show.sheet import WIDTH, draw_row, draw_sheet
from rap_training.show.viewer_file import write_viewer_file
from rap_training.show.views import pictured
from rap_training.show.words import figure_in_words
from rap_training.show_commands import show_command

STEPS, DT_S = 80, 0.1
EGO, CAR, TRUCK = 1, 2, 3
MODEL = ModelConfig()
SIZE = (96, 48)
LABEL = (0, 255, 0)


def turning(start: float, speed_mps: float, radius_m: float) -> np.ndarray:
    """States of a vehicle on a circle to the left that starts east of `start` on the x axis."""
    yaw = speed_mps / radius_m * DT_S * np.arange(STEPS)
    velocity = speed_mps * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    place = np.stack([start + radius_m * np.sin(yaw), radius_m * (1 - np.cos(yaw))], axis=1)
    rate = np.full(STEPS, speed_mps / radius_m)
    return np.column_stack([place, np.zeros(STEPS), yaw, velocity, rate])


def write_turns(path: Path) -> None:
    """The ego turns left behind a car that does the same; a truck far ahead stands."""
    states = [turning(0.0, 6.0, 40.0), turning(15.0, 6.0, 25.0), turning(60.0, 0.001, 40.0)]
    tracks = Tracks(
        ids=np.array([EGO, CAR, TRUCK], np.int32),
        source_ids=np.array([EGO, CAR, TRUCK], np.int64),
        classes=np.array([ObjectClass.VEHICLE, ObjectClass.VEHICLE, ObjectClass.TRUCK], np.uint8),
        sizes_m=np.array([[4.6, 1.9, 1.5], [4.2, 1.8, 1.5], [9.0, 2.5, 3.2]]),
        rear_axles_m=np.array([1.3, 1.2, 2.6]),
        first_steps=np.zeros(3, np.int32),
        last_steps=np.full(3, STEPS - 1, np.int32),
        states=np.concatenate(states),
        observed=np.ones(3 * STEPS, np.bool_),
    )
    lights = LightTracks(
        (), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros((STEPS, 0), np.uint8)
    )
    road = Shapes.from_list([(PolygonKind.DRIVABLE, [[-20, -5, 0], [90, -5, 0], [90, 60, 0]])])
    lines = Shapes.from_list([(LineKind.ROAD_BOUNDARY, [[-20, -5, 0], [90, -5, 0]])])
    stamps = np.arange(STEPS, dtype=np.int64) * 100_000_000
    vector_map = VectorMap("circle", lines, road)
    write_log(path, Recording("turns", vector_map, stamps, tracks, lights, egos=(EGO,)))


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> DriveLog:
    folder = tmp_path_factory.mktemp("logs")
    write_turns(folder / "turns")
    return open_logs(folder)[0]


class Changed(EgoSource):
    """The ego's drives from half a metre farther left, the car ahead gone and the truck moved."""

    kind = SourceKind.EDIT

    def situation(self, start, rng):
        recorded = super().situation(start, rng)
        boxes = recorded.boxes.select(recorded.boxes.ids != CAR)
        boxes.centers_m[0, 0] += 3.0
        ego, yaw = recorded.ego, recorded.ego.yaw_rad
        pushed = replace(ego, x_m=ego.x_m - 0.5 * np.sin(yaw), y_m=ego.y_m + 0.5 * np.cos(yaw))
        details = {"lateral_m": 0.5, "yaw_rad": 0.07, "edit": "car removed"}
        return replace(recorded, ego=pushed, boxes=boxes, details=details)


@pytest.fixture(scope="module")
def mixture(log) -> Mixture:
    makers = (EgoSource, Changed)
    return Mixture([(make([log], EgoConfig(), MODEL), 1.0) for make in makers])


@pytest.fixture(scope="module")
def samples(mixture):
    style = load_style("semantic")
    return [pictured(shown, style, SIZE) for shown in choose(mixture.sources, MODEL, 2, seed=5)]


def fisheye() -> CameraModel:
    pose = np.eye(4)
    pose[:3, :3] = optical_rotation(0.4, pitch_rad=0.2)
    pose[:3, 3] = (1.0, 0.3, 1.4)
    lens = Distortion("equidistant", (0.05, -0.01, 0.002, -0.001))
    return CameraModel("side", 400, 300, 180.0, 175.0, 200.0, 140.0, pose, lens)


def opencv_pixels(camera: CameraModel, points_ego: np.ndarray) -> np.ndarray:
    """Where OpenCV's fisheye model sees points."""
    camera_from_ego = np.linalg.inv(camera.ego_from_camera)
    rotation, _ = cv2.Rodrigues(camera_from_ego[:3, :3])
    pixels, _ = cv2.fisheye.projectPoints(
        points_ego[:, None],
        rotation,
        camera_from_ego[:3, 3],
        camera.intrinsics,
        np.array(camera.distortion.coeffs),
    )
    return pixels[:, 0]


def test_ground_points_land_where_opencv_sees_them():
    points = np.array([[6.0, 1.0, 0.0], [12.0, 9.0, 0.0], [4.0, 4.0, 0.0]])
    pixels, ahead = image_points(fisheye(), points)
    assert ahead.all()
    np.testing.assert_allclose(pixels, opencv_pixels(fisheye(), points), atol=1e-6)


def test_the_label_covers_the_ground_it_runs_over_and_nothing_beside_it():
    """A path through known points; what is a metre beside it keeps its colour."""
    camera, x = fisheye(), np.linspace(0.0, 20.0, 41)
    path = np.column_stack([x, 0.03 * x**2, np.arctan(0.06 * x)])
    picture = np.zeros((300, 400, 3), np.uint8)
    draw_ribbon(picture, camera, path, LABEL)
    known = path[10:30]
    left = np.column_stack([-np.sin(known[:, 2]), np.cos(known[:, 2])])
    for offset_m, drawn in ((0.0, True), (0.2, True), (1.0, False), (-1.0, False)):
        ground = np.column_stack([known[:, :2] + offset_m * left, np.zeros(len(known))])
        columns, rows = np.round(opencv_pixels(camera, ground)).astype(int).T
        inside = (columns >= 0) & (columns < 400) & (rows >= 0) & (rows < 300)
        assert inside.sum() > 5
        assert ((picture[rows[inside], columns[inside], 1] > 100) == drawn).all()


def test_what_is_behind_the_camera_is_not_drawn():
    camera, picture = fisheye(), np.zeros((300, 400, 3), np.uint8)
    path = np.column_stack([np.linspace(0.0, -30.0, 20), np.zeros(20), np.full(20, np.pi)])
    draw_ribbon(picture, camera, path, LABEL)
    draw_dots(picture, camera, path, LABEL)
    assert not picture.any()


def test_dots_do_not_hide_each_other():
    camera, picture = fisheye(), np.zeros((300, 400, 3), np.uint8)
    places = np.column_stack([np.linspace(10.0, 20.0, 100), np.full(100, 6.0)])
    draw_dots(picture, camera, places, LABEL)
    count, _ = cv2.connectedComponents((picture[..., 1] > 200).astype(np.uint8))
    assert 2 <= count - 1 < 10


def test_the_sheet_has_a_row_for_each_sample_of_each_source(samples):
    kinds = [sample.shown.situation.kind for sample in samples]
    assert kinds == [SourceKind.EGO, SourceKind.EGO, SourceKind.EDIT, SourceKind.EDIT]
    sheet = draw_sheet(samples)
    rows = [draw_row(sample) for sample in samples]
    assert sheet.shape[1] == WIDTH
    tops = [
        [top for top in range(len(sheet)) if np.array_equal(sheet[top : top + len(row)], row)]
        for row in rows
    ]
    assert [len(found) for found in tops] == [1, 1, 1, 1]
    assert (np.diff(np.ravel(tops)) >= len(rows[0])).all()


def test_a_changed_sample_is_shown_beside_what_was_recorded(samples):
    recorded, changed = samples[0], samples[-1]
    assert recorded.original is None
    assert changed.original is not None
    front = next(view for view in changed.views if view.camera.name == "front")
    assert (changed.original.raster != front.raster).any()
    assert (changed.original.image != front.image).any()


def test_changes_are_told_from_the_boxes_alone(samples):
    assert len(changes_of(samples[0].shown).before) == 0
    changes = changes_of(samples[-1].shown)
    assert sorted(changes.before.ids.tolist()) == [CAR, TRUCK]
    assert changes.after.ids.tolist() == [TRUCK]


def test_the_recorded_drive_is_shown_where_it_was(samples):
    """The ego stands half a metre farther left, so the drive begins half a metre to its right."""
    shown: Shown = samples[-1].shown
    path = shown.recorded_path()
    np.testing.assert_allclose(path[0], [0.0, -0.5, 0.0], atol=1e-9)
    np.testing.assert_allclose(path[1:, :2], shown.recorded.path_m[:, :2] - [0.0, 0.5], atol=1e-9)


def test_words_have_units_and_sides():
    assert figure_in_words("lateral_m", -0.6) == "0.60 m right"
    assert figure_in_words("yaw_rad", np.pi / 45) == "yaw +4.0 deg"
    assert figure_in_words("speed_mps", 0.8) == "speed +0.8 m/s"
    assert figure_in_words("speed_ratio", -0.1) == "speed -10 %"
    assert figure_in_words("edit", "light red") == "edit: light red"


def test_samples_differ_from_each_other(mixture):
    first, second, third = candidates(mixture.sources[0], MODEL, 3, seed=0)
    moment = replace(third.recorded.moment, seat=CAR)
    other = replace(third, recorded=replace(third.recorded, moment=moment))
    chosen = varied([first, second, other], 2)
    assert [shown.recorded.moment.seat for shown in chosen] == [EGO, CAR]


def read_viewer_file(path: Path) -> dict[str, dict[int, dict]]:
    """Reads a file with the viewer's own reader: entity, place on the timeline, components."""
    entities: dict[str, dict[int, dict]] = {}
    for chunk in RrdReader(path).stream().to_chunks():
        batch = chunk.to_record_batch()
        kept = [name for name in batch.column_names if name != "log_time"]  # of no type of Python
        for row in batch.select(kept).to_pylist():
            if row.get("sample") is not None:
                of_sample = entities.setdefault(chunk.entity_path, {})
                of_sample.setdefault(row["sample"], {}).update(row)
    return entities


def test_the_viewer_file_can_be_read_back(samples, tmp_path):
    path = tmp_path / "samples.rrd"
    write_viewer_file(samples, path)
    entities = read_viewer_file(path)
    everywhere = ["/ego/box", "/ego/label", "/ego/history", "/around/agents", "/words",
                  "/around/map/road_boundary", "/ego/camera/front/lens",
                  "/ego/camera/front/lens/picture",
                  "/ego/raster/front_left/lens/picture"]  # fmt: skip
    for entity in everywhere:
        assert sorted(entities[entity]) == [0, 1, 2, 3]
    for entity in ("/original/camera", "/original/raster", "/ego/recorded"):
        assert sorted(entities[entity]) == [2, 3]
    for number, sample in enumerate(samples):
        situation = sample.shown.situation
        (strip,) = entities["/ego/label"][number]["LineStrips3D:strips"]
        np.testing.assert_allclose(np.array(strip)[1:, :2], situation.path_m[:, :2], atol=1e-5)
        agents = entities["/around/agents"][number]["Boxes3D:half_sizes"]
        np.testing.assert_allclose(agents, situation.boxes.sizes_m / 2, rtol=1e-6)


def shown(*arguments: object):
    app = typer.Typer()
    app.command()(show_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_same_seed_gives_the_same_sheet(log, mixture, tmp_path):
    write_turns(tmp_path / "logs" / "turns")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = shown("--logs", tmp_path / "logs", "--out", tmp_path / name, "--count", 1,
                     "--seed", seed)  # fmt: skip
        assert done.exit_code == 0, done.output
        assert "1 ego, 1 cross_agent" in done.output
    first, second, other = ((tmp_path / n / "samples.png").read_bytes() for n in "abc")
    assert first == second
    assert first != other


def test_a_folder_without_logs_is_one_line(tmp_path):
    done = shown("--logs", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert isinstance(done.exception, LogError)
    assert "nowhere: no logs there" in str(done.exception)
    assert not (tmp_path / "out").exists()
