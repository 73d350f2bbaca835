from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shapely import LineString, Point
from source_draws import situations

from rap_evaluation.drive_export import recorded_drive
from rap_evaluation.logs.drive_log import DriveLog, StoredLog
from rap_evaluation.logs.drive_recording import recording_of
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.recording import Engagement
from rap_evaluation.moments import Moment
from rap_planner.route import Command, route_ahead
from rap_raster.camera import optical_rotation
from rap_raster.frames import to_parent
from rap_raster.rasterizer import render_batch
from rap_raster.styles import load_style
from rap_training.augmentation.edits.scene_edit import EditKind, edited, nobody, of_track
from rap_training.augmentation.mixture import Mixture, MixtureError, mixture_of, sources_of
from rap_training.augmentation.recorded import (
    CrossAgentSource,
    EgoSource,
    as_recorded,
    is_drivable,
    path_ahead_m,
)
from rap_training.augmentation.situation import DROPS, Drop, SourceKind
from rap_training.augmentation.survey import survey
from rap_training.config import (
    CrossAgentConfig,
    DataConfig,
    EgoConfig,
    ModelConfig,
    RecoveryConfig,
    SourcesConfig,
    TrainingConfig,
)
from rap_training.dataset import DriveDataset, jittered, load_batches
from rap_training.rig import NOMINAL_RIG, fitted_rig

MODEL = ModelConfig()
BOTH = SourcesConfig(
    ego=EgoConfig(weight=0.7),
    cross_agent=CrossAgentConfig(weight=0.3),
    recovery=RecoveryConfig(weight=0.0),
)


@pytest.fixture(scope="module")
def cross_agent(town_log):
    return CrossAgentSource([town_log], BOTH.cross_agent, MODEL)


def test_a_vehicle_sees_what_it_would_see_in_a_log_of_its_own(town_log, cross_agent, tmp_path):
    # The vehicle's drive goes the way of a recording: odometry of the rear axle, others as boxes.
    seen = situations(cross_agent, 40)
    first = max(seen, key=lambda s: abs(s.path_m[-1, 2]))  # One that turns.
    seat, step = first.moment.seat, first.moment.step
    begin, end = town_log.first_step(seat), town_log.last_step(seat)
    seconds = (end - begin) * town_log.dt_s
    drive = recorded_drive(town_log, seat, begin, seconds)
    write_log(tmp_path, recording_of(replace(drive, map=town_log.map)))
    own = DriveLog.open(tmp_path)
    ego = own.egos[0]
    assert ego != town_log.egos[0]
    source = EgoSource([own], EgoConfig(standing_share=1.0), MODEL)
    starts = {source.moment(i).step: i for i in range(len(source))}
    second = source.situation(starts[step - begin], np.random.default_rng(0))
    assert np.allclose(second.path_m, first.path_m, atol=1e-6)
    assert np.allclose(second.history[:, :3], first.history[:, :3], atol=1e-5)
    # Speeds of the track are SUMO's, those of the odometry of the log's own motion.
    assert np.allclose(second.history[:, 3:6], first.history[:, 3:6], atol=0.02)
    assert second.command == first.command
    style = load_style("semantic")
    rasters = [
        render_batch([s.geometry(style)], [fitted_rig(s.vehicle)])["rgb"][0].astype(int)
        for s in (first, second)
    ]
    assert rasters[0].any()
    assert (np.abs(rasters[0] - rasters[1]).max(axis=-1) > 2).mean() < 1e-3


def test_the_recording_vehicle_is_a_box_of_its_true_size_in_the_eyes_of_others(
    town_log, cross_agent
):
    ego = town_log.egos[0]
    moment = next(
        m for m in map(cross_agent.moment, range(len(cross_agent)))
        if town_log.ego_state(m.step, ego) is not None
        and np.hypot(*(m.ego().planar - town_log.ego_state(m.step, ego).planar)[:2]) < 60.0
    )  # fmt: skip
    boxes, _ = town_log.objects(moment.step, moment.seat, moment.ego().planar)
    row = boxes.ids.tolist().index(ego)
    size = town_log.dimensions(ego)
    assert boxes.sizes_m[row].tolist() == [size.length_m, size.width_m, size.height_m]
    pose = town_log.ego_state(moment.step, ego).pose
    assert np.allclose(boxes.centers_m[row], size.box_center(pose), atol=1e-9)
    assert moment.seat not in boxes.ids


def test_velocities_are_those_of_the_vehicles_own_motion(cross_agent):
    # The published code turned them the wrong way: a car that crossed at 90 degrees drove back.
    for situation in situations(cross_agent, 60):
        if not situation.history[-2, 6]:
            continue  # It has just appeared.
        before, now, after = situation.history[-2], situation.history[-1], situation.path_m[4]
        speed = (after[:2] - before[:2]) / 1.0  # Half a second back and half a second ahead.
        assert now[3] == pytest.approx(speed[0], abs=1.0)
        assert now[3] > -0.1


@given(yaw=st.floats(-np.pi, np.pi), x=st.floats(-1e3, 1e3), y=st.floats(-1e3, 1e3))
def test_a_turned_world_gives_the_same_sample(town_recording, tmp_path_factory, yaw, x, y):
    tracks = town_recording.tracks
    row = int(np.argmax(tracks.last_steps - tracks.first_steps))
    states = tracks.states.copy()
    states[:, [0, 1, 3]] = to_parent([x, y, yaw], states[:, [0, 1, 3]])
    cos, sin = np.cos(yaw), np.sin(yaw)
    states[:, 4:6] = states[:, 4:6] @ np.array([[cos, sin], [-sin, cos]])
    samples = []
    for each in (tracks.states, states):
        log = as_log(replace(town_recording, tracks=replace(tracks, states=each)))
        moment = Moment(log, int(tracks.ids[row]), int(tracks.first_steps[row]) + 20)
        samples.append((moment.history(4, 0.5), moment.future(10, 0.5)))
    assert np.allclose(samples[0][0], samples[1][0], atol=1e-4)
    assert np.allclose(samples[0][1], samples[1][1], atol=1e-6)


def as_log(recording) -> DriveLog:
    commands = np.zeros(len(recording.tracks.states), np.uint8)
    return DriveLog(StoredLog(Path("none"), recording, {}, commands))


def test_uninteresting_motion_is_dropped_and_counted(town_log):
    config = CrossAgentConfig(min_deviation_m=3.0)
    mixture = Mixture([(CrossAgentSource([town_log], config, MODEL), 1.0)])
    strict = survey(mixture.sources, 1, seed=0)[0]
    loose = survey(
        mixture_of([town_log], SourcesConfig(ego=EgoConfig(weight=0.0)), MODEL).sources, 1, 0
    )[0]
    assert strict.tries == strict.samples + sum(strict.drops.values())
    assert 0 < strict.samples < loose.samples
    assert strict.drops[Drop.STEADY] > loose.drops[Drop.STEADY]
    assert strict.drops[Drop.STANDING] == loose.drops[Drop.STANDING]
    # By hand: every kept motion ends farther from going straight on than the mean says.
    for situation in situations(mixture.sources[0], 20):
        straight = 5.0 * situation.history[-1, 3:5]
        assert np.hypot(*(situation.path_m[-1, :2] - straight)) > 3.0


def test_what_no_vehicle_can_do_is_noise():
    limits, dt_s = CrossAgentConfig(), 0.1
    times_s = dt_s * np.arange(1, 51)
    yaw = 0.6 * times_s  # A bend at 0.6 rad/s and 8 m/s.
    bend = np.stack([8 / 0.6 * np.sin(yaw), 8 / 0.6 * (1 - np.cos(yaw)), yaw], axis=-1)
    assert is_drivable(bend, dt_s, limits)
    sideways = bend + np.array([0.0, 0.0, 0.3])
    jump = bend + np.where(times_s[:, None] > 2.5, [0.0, 3.0, 0.0], 0.0)
    spin = np.stack([0 * times_s, 0 * times_s, 1.5 * times_s], axis=-1)
    assert not any(is_drivable(path, dt_s, limits) for path in (sideways, jump, spin))


def test_classes_can_be_left_out(town_log):
    shares = {"vehicle": 0.0, "truck": 1.0, "bus": 0.0, "motorcycle": 0.0}
    config = CrossAgentConfig.model_validate({"class_shares": shares})
    source = CrossAgentSource([town_log], config, MODEL)
    assert {town_log.object_class(s.moment.seat).name for s in situations(source, 10)} == {"TRUCK"}


def test_a_rig_fits_the_vehicle_it_sits_on(town_log):
    car, bus = (
        next(t for t in town_log.seats() if town_log.object_class(t).name == name)
        for name in ("VEHICLE", "BUS")
    )
    low, high = fitted_rig(town_log.dimensions(car)), fitted_rig(town_log.dimensions(bus))
    for nominal, a, b in zip(NOMINAL_RIG, low, high, strict=True):
        assert a.ego_from_camera[2, 3] < town_log.dimensions(car).height_m
        assert b.ego_from_camera[2, 3] < town_log.dimensions(bus).height_m
        assert b.ego_from_camera[2, 3] > a.ego_from_camera[2, 3]
        assert np.array_equal(a.ego_from_camera[:3, :3], nominal.ego_from_camera[:3, :3])


@pytest.mark.parametrize(("driven_by", "left"), [("people", 0), ("system", 1), ("anyone", 2)])
def test_starts_are_chosen_by_who_drove(town_recording, driven_by, left):
    steps = len(town_recording.stamps_ns)
    engaged = np.full(steps, Engagement.MANUAL, np.uint8)
    engaged[100:] = Engagement.ENGAGED
    log = as_log(replace(town_recording, engaged=engaged))
    source = EgoSource([log], EgoConfig(driven_by=driven_by), MODEL)
    found = {source.moment(i).step for i in range(len(source))}
    first, last = log.first_step(log.egos[0]), log.last_step(log.egos[0])
    every = set(range(first, last - 50 + 1))
    expected = [{s for s in every if s + 50 < 100}, {s for s in every if s >= 100}, every]
    assert found == expected[left]
    assert found


def toy_training(**data: object) -> TrainingConfig:
    return TrainingConfig(data=DataConfig.model_validate({"sources": BOTH, **data}))


def test_samples_do_not_depend_on_the_number_of_workers(town_log):
    config = toy_training(cameras={"share": 0.2, "views": "any"}, image_size=(64, 32))
    dataset = DriveDataset(mixture_of([town_log], BOTH, MODEL), config, 24)
    alone, many = (list(load_batches(dataset, 4, workers=workers)) for workers in (0, 2))
    assert len(alone) == 6
    assert torch.equal(next(iter(load_batches(dataset, 4, workers=0, first=5))).tensors["target"],
                       alone[5].tensors["target"])  # fmt: skip
    for one, other in zip(alone, many, strict=True):
        assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    single = dataset[13]  # Nor on the batch it is drawn in.
    assert all(torch.equal(single[name], alone[3].tensors[name][1]) for name in single)


def test_weights_decide_how_often_a_source_is_drawn(town_log):
    config = toy_training(cameras={"share": 0.0}, image_size=(32, 16))
    dataset = DriveDataset(mixture_of([town_log], BOTH, MODEL), config, 400)
    codes = dataset.batch(range(400))["source"].tolist()
    assert np.mean(codes) / 2 == pytest.approx(0.3, abs=0.08)  # 3.5 standard deviations.
    weights = set(dataset.batch(range(50))["loss_weight"].tolist())
    assert {round(w, 6) for w in weights} == {0.1, 1.0}


def test_dropped_draws_are_counted_in_the_samples(town_log):
    config = toy_training(cameras={"share": 0.0}, image_size=(32, 16))
    dataset = DriveDataset(mixture_of([town_log], BOTH, MODEL), config, 200)
    drops = dataset.batch(range(200))["drops"].numpy().sum(axis=0)
    assert drops.shape == (len(DROPS),)
    assert drops[DROPS.index(Drop.STANDING)] > 0


def test_sources_that_give_nothing_say_so(town_log):
    nothing = SourcesConfig(
        ego=EgoConfig(weight=0.0),
        cross_agent=CrossAgentConfig(weight=0.0),
        recovery=RecoveryConfig(weight=0.0),
    )
    with pytest.raises(MixtureError, match="no source has a weight"):
        mixture_of([town_log], nothing, MODEL)
    with pytest.raises(MixtureError, match="ego: no start"):
        mixture_of([], BOTH, MODEL)
    assert [c.samples for c in survey([s for s, _ in sources_of([], BOTH, MODEL)], 1, 0)] == [0, 0]
    hopeless = SourcesConfig(
        ego=EgoConfig(weight=0.0),
        cross_agent=CrossAgentConfig(min_deviation_m=1e9),
        recovery=RecoveryConfig(weight=0.0),
    )
    with pytest.raises(MixtureError, match=r"cross_agent: nothing in 1000 draws: .*straight on"):
        mixture_of([town_log], hopeless, MODEL).draw(np.random.default_rng(0))


def test_cameras_are_turned_as_their_angles_say():
    config = toy_training(yaw_jitter_rad=0.2, position_jitter_m=0.0, focal_jitter=0.0)
    level = optical_rotation(0.0)
    for camera in jittered(NOMINAL_RIG, config, np.random.default_rng(1)):
        nominal = next(c for c in NOMINAL_RIG if c.name == camera.name)
        turn = nominal.ego_from_camera[:3, :3].T @ camera.ego_from_camera[:3, :3]
        assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        axis = level @ turn[:, 2]  # Where a camera that looked straight ahead looks now.
        yaw_rad, pitch_rad = np.arctan2(axis[1], axis[0]), -np.arcsin(axis[2])
        assert np.allclose(level @ turn, optical_rotation(yaw_rad, pitch_rad), atol=1e-12)
        assert 0.0 < abs(yaw_rad) < 1.0


EGO_ONLY = SourcesConfig(
    ego=EgoConfig(weight=1.0),
    cross_agent=CrossAgentConfig(weight=0.0),
    recovery=RecoveryConfig(weight=0.0),
)
PLAIN = {"image_size": (32, 16), "cameras": {"share": 0.0}}


def dataset_of(log, length: int, sources: SourcesConfig = BOTH, seed: int = 1, **data: object):
    config = toy_training(**{**PLAIN, "sources": sources, **data})
    optimizer = config.optimizer.model_copy(update={"seed": seed})
    config = config.model_copy(update={"optimizer": optimizer})
    return DriveDataset(mixture_of([log], sources, MODEL), config, length)


def pictures(dataset: DriveDataset, count: int) -> set[tuple[bytes, bytes, bytes]]:
    """Images, rasters and targets of those of the first samples that have images."""
    batch = dataset.batch(range(count))
    rows = torch.nonzero(batch["has_images"])[:, 0].tolist()
    fields = [batch[name].numpy() for name in ("images", "rasters", "target")]
    return {tuple(field[row].tobytes() for field in fields) for row in rows}


def test_trainings_of_other_seeds_share_their_photographed_samples(town_log):
    cameras = {"share": 0.6, "samples": 3, "views": "any"}
    first, second = (
        pictures(dataset_of(town_log, 30, seed=seed, cameras=cameras), 30) for seed in (1, 2)
    )
    assert len(first) == 3
    assert first == second
    other = dataset_of(town_log, 30, seed=1, cameras={**cameras, "seed": 1})
    assert not first & pictures(other, 30)
    with_rasters = (dataset_of(town_log, 30, seed=seed, cameras=cameras) for seed in (1, 2))
    targets = [
        {row.numpy().tobytes() for row in batch["target"][batch["has_images"] == 0]}
        for batch in (dataset.batch(range(30)) for dataset in with_rasters)
    ]
    assert targets[0] != targets[1]  # What has no images is drawn by the training's own seed.


@pytest.mark.parametrize(("views", "photographed"), [("recorded", {0}), ("any", {0, 2})])
def test_only_what_was_recorded_has_images_unless_any_view_may(town_log, views, photographed):
    cameras = {"share": 0.5, "views": views}
    batch = dataset_of(town_log, 60, cameras=cameras).batch(range(60))
    shown = batch["has_images"] == 1.0
    assert set(batch["source"][shown].tolist()) == photographed
    assert set(batch["source"][~shown].tolist()) == {0, 2}
    assert batch["images"][shown].flatten(1).any(dim=1).all()
    assert not batch["images"][~shown].any()


def test_images_of_recorded_drives_need_recorded_drives(town_log):
    others = BOTH.model_copy(update={"ego": EgoConfig(weight=0.0)})
    cameras = {"share": 0.5, "views": "recorded"}
    with pytest.raises(MixtureError, match=r"data\.cameras\.views: recorded, .* ego") as caught:
        dataset_of(town_log, 4, others, cameras=cameras)
    assert "\n" not in str(caught.value)
    assert len(dataset_of(town_log, 4, others, cameras={**cameras, "share": 0.0})) == 4


def test_shares_of_hidden_inputs_are_kept_at_their_ends(town_log):
    names = ("hidden_route_share", "hidden_history_share", "unknown_command_share",
             "hidden_camera_share")  # fmt: skip
    still = {"short_history_share": 0.0, "speed_noise_mps": 0.0}
    shown, hidden = (
        dataset_of(town_log, 16, EGO_ONLY, **still, **dict.fromkeys(names, share))
        for share in (0.0, 1.0)
    )
    seen, none = shown.batch(range(16)), hidden.batch(range(16))
    for row, drawn in enumerate(shown.drawn(range(16))):
        situation = drawn.situation
        np.testing.assert_array_equal(seen["history"][row], situation.history)
        assert seen["command"][row].argmax() == situation.command
        expected = route_ahead(situation.route_m, situation.ego.pose, 30, 2.5)
        np.testing.assert_array_equal(seen["route"][row], expected)
    assert seen["route"][..., 2].any()
    assert (seen["camera_valid"] == 1.0).all()
    assert (none["route"] == 0.0).all()
    assert (none["history"][:, :-1] == 0.0).all()
    assert (none["history"][:, -1, 6] == 1.0).all()
    assert (none["command"].argmax(dim=1) == Command.UNKNOWN).all()
    assert (none["camera_valid"].sum(dim=1) == none["camera_valid"].shape[1] - 1).all()
    assert torch.equal(seen["target"], none["target"])


def test_the_route_ahead_is_where_the_drive_goes(town_log):
    # Drives keep to their lanes: whoever drives along the route stays near its points.
    batch = dataset_of(town_log, 40, EGO_ONLY, hidden_route_share=0.0).batch(range(40))
    ways = [
        (LineString(np.vstack([[0.0, 0.0], route[route[:, 2] > 0, :2]])), target[:, :2])
        for route, target in zip(batch["route"].numpy(), batch["target"].numpy(), strict=True)
        if route[:, 2].all()
    ]
    assert len(ways) > 10
    aside_m = [
        way.distance(Point(pose)) for way, target in ways for pose in target
        if np.hypot(*pose) < 45.0  # Fast ones leave the 50 m of the route behind.
    ]  # fmt: skip
    assert np.quantile(aside_m, 0.95) < 1.5


def test_a_model_of_the_command_alone_is_given_no_route(town_log):
    model = ModelConfig(route_points=0)
    config = toy_training(**PLAIN).model_copy(update={"model": model})
    dataset = DriveDataset(mixture_of([town_log], BOTH, model), config, 4)
    assert dataset.batch(range(4))["route"].shape == (4, 0, 3)


def test_an_edited_moment_has_the_route_of_its_place(town_log):
    ego = town_log.egos[0]
    step = town_log.last_step(ego) - 60
    other = next(seat for seat in town_log.seats() if seat != ego)
    removed = of_track(EditKind.REMOVE, 0.0, other, nobody(town_log))
    moment = Moment(edited(town_log, removed, step), ego, step)
    assert moment.log.first_step(ego) > town_log.first_step(ego)  # It knows a part of the drive.
    routes = [
        as_recorded(each, SourceKind.EGO, path_ahead_m(each, MODEL), MODEL).route_m
        for each in (Moment(town_log, ego, step), moment)
    ]
    np.testing.assert_array_equal(routes[0], routes[1])


@pytest.mark.parametrize("devices", [2, 3])
def test_the_shares_of_all_devices_are_the_whole_batch(town_log, devices):
    dataset = dataset_of(town_log, 15)
    whole = list(load_batches(dataset, 6, workers=0))
    shares = [
        list(load_batches(dataset, 6, workers=0, share=(rank, devices))) for rank in range(devices)
    ]
    for number, batch in enumerate(whole):
        for name, rows in batch.tensors.items():
            for rank in range(devices):
                own = shares[rank][number].tensors[name]
                assert torch.equal(own, rows[rank::devices]), name
    assert [len(batch.tensors["target"]) for batch in whole] == [6, 6, 3]


def test_the_first_samples_of_a_batch_have_scenes_to_be_scored_in(town_log):
    dataset = dataset_of(town_log, 10)  # A fifth of the samples is scored.
    batch = dataset.training_batch(range(10))
    assert len(batch.scenes) == 2
    for scene, drawn in zip(batch.scenes, dataset.drawn(range(2)), strict=True):
        np.testing.assert_allclose(scene.initial_state[:3], drawn.situation.ego.planar)
