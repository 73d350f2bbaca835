"""Edits do what they say, their labels are drivable, and their index is complete or not there."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import shapely
from edit_worlds import (
    APPROACH_HEADS,
    CONNECTOR,
    CROSSING_HEAD,
    EGO,
    LEADER,
    obstacle,
    stage_of,
    write_world,
)
from hypothesis import given
from hypothesis import strategies as st
from shapely import affinity
from typer.testing import CliRunner

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.moments import Moment
from rap_planner.route import Command
from rap_raster.frames import to_local, to_parent, wrap_angle
from rap_raster.scene import LightState, ObjectClass, PolygonKind
from rap_training.augmentation.edits.draws import EditDraws
from rap_training.augmentation.edits.index import INDEX, EditIndex, EditIndexError, EditOptions
from rap_training.augmentation.edits.motion import (
    FASTER_MPS,
    at_rate,
    shifted_across,
    shifted_along,
)
from rap_training.augmentation.edits.scene_edit import EditKind, edited, nobody, of_track
from rap_training.augmentation.edits.search import EditSearch
from rap_training.augmentation.edits.source import EditSource, index_edits
from rap_training.augmentation.mixture import mixture_of
from rap_training.commands import app
from rap_training.config import EditConfig, EgoConfig, ModelConfig, SourcesConfig

OPTIONS = EditOptions(count=1, seed=1)
PACIFICA_M = (5.176, 2.297, 1.461)  # Length, width, rear axle to centre: nuplan-devkit.
MOMENT_STEP = 40


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("worlds") / "straight")


@pytest.fixture(scope="module")
def stage(world):
    return stage_of(world, MOMENT_STEP)


@pytest.fixture(scope="module")
def town(edited_town):
    index = EditIndex.open(edited_town)
    found = [index[row] for row in range(len(index))]
    assert len({checked.edit.kind for checked in found}) >= 3, index.counts  # Enough to check.
    return edited_town, found


def drawn(log, stage, kind, seeds=range(20)):
    draws = EditDraws(log)
    found = [draws.draw(stage, kind, np.random.default_rng(seed)) for seed in seeds]
    return [edit for edit in found if edit is not None]


# What an edit does to a log.


def test_who_is_removed_is_gone_at_all_steps_and_nobody_else(world, stage):
    for edit in drawn(world, stage, EditKind.REMOVE):
        after = edited(world, edit, MOMENT_STEP)
        for step in range(MOMENT_STEP - 20, MOMENT_STEP + 51):
            before, _ = world.objects(step, EGO, stage.pose)
            boxes, _ = after.objects(step, EGO, stage.pose)
            assert set(before.ids) - set(boxes.ids) == {edit.track}


def test_only_the_added_is_new_and_it_is_there_all_the_time(world, stage):
    edits = drawn(world, stage, EditKind.ADD)
    assert {ObjectClass(int(edit.motion.classes[0])) for edit in edits} > {ObjectClass.PEDESTRIAN}
    for edit in edits:
        after = edited(world, edit, MOMENT_STEP)
        for step in (MOMENT_STEP - 10, MOMENT_STEP, MOMENT_STEP + 50):
            before, _ = world.objects(step, EGO, stage.pose, 500.0)
            boxes, _ = after.objects(step, EGO, stage.pose, 500.0)
            assert set(boxes.ids) - set(before.ids) == {edit.track}
        speeds = np.hypot(*np.diff(edit.motion.states[:, :2], axis=0).T) / 0.1
        assert speeds == pytest.approx(edit.amount, abs=0.05)


def test_some_on_foot_cross_the_ego_s_line_and_some_wait_beside_it(world, stage):
    on_foot = [
        edit.motion.states
        for edit in drawn(world, stage, EditKind.ADD, range(60))
        if edit.motion.classes[0] == ObjectClass.PEDESTRIAN
    ]
    waiting = [states for states in on_foot if np.hypot(*states[0, 4:6]) == 0.0]
    assert 5 < len(waiting) < len(on_foot) - 5
    for states in waiting:
        assert np.ptp(states[:, :2], axis=0).max() == 0.0
        assert np.hypot(*(stage.way.line_m[:, :2] - states[0, :2]).T).min() <= 5.0 + 0.5


@pytest.mark.parametrize("kind", [EditKind.SHIFT_ALONG, EditKind.SHIFT_ACROSS])
def test_a_shift_moves_by_exactly_what_it_says(world, stage, kind):
    edits = drawn(world, stage, kind)
    assert edits
    for edit in edits:
        after = edited(world, edit, MOMENT_STEP)
        for step in (MOMENT_STEP - 15, MOMENT_STEP, MOMENT_STEP + 50):
            pose = world.states(edit.track)[step, [0, 1, 3]]
            moved = after.states(edit.track)[step - after.first_step(edit.track), [0, 1, 3]]
            along, across, turn = to_local(pose, moved)
            wanted = (edit.amount, 0.0) if kind is EditKind.SHIFT_ALONG else (0.0, edit.amount)
            assert (along, across, turn) == pytest.approx((*wanted, 0.0), abs=1e-9)


def test_a_switch_flips_all_heads_of_the_approach_and_no_others(world, stage):
    edit = drawn(world, stage, EditKind.LIGHT)[0]
    states = edited(world, edit, MOMENT_STEP).lights.states
    assert sorted(edit.lights) == list(APPROACH_HEADS)
    assert (states[edit.light_step : MOMENT_STEP + 51, APPROACH_HEADS] == LightState.RED).all()
    assert (states[: edit.light_step] == world.lights.states[: edit.light_step]).all()
    assert (states[:, CROSSING_HEAD] == world.lights.states[:, CROSSING_HEAD]).all()
    assert MOMENT_STEP - 20 <= edit.light_step <= MOMENT_STEP


def test_an_edited_log_keeps_map_commands_and_history(world, stage):
    edit = drawn(world, stage, EditKind.REMOVE)[0]
    after = edited(world, edit, MOMENT_STEP)
    recorded, changed = Moment(world, EGO, MOMENT_STEP), Moment(after, EGO, MOMENT_STEP)
    assert after.map is world.map
    assert changed.ego() == recorded.ego()
    assert changed.command() == recorded.command() != Command.UNKNOWN
    assert (changed.history(4, 0.5) == recorded.history(4, 0.5)).all()


# How edited road users move: against circles, on which all of it is known.

RADIUS_M = 40.0


def circle(speed_mps, steps=80):
    """States of who drives on a circle around the origin."""
    angle = np.arange(steps) * 0.1 * speed_mps / RADIUS_M
    yaw = angle + 0.5 * np.pi
    poses = [RADIUS_M * np.cos(angle), RADIUS_M * np.sin(angle), np.zeros(steps), wrap_angle(yaw)]
    velocity = [speed_mps * np.cos(yaw), speed_mps * np.sin(yaw)]
    return np.column_stack([*poses, *velocity, np.full(steps, speed_mps / RADIUS_M)])


@given(st.floats(3.0, 12.0), st.floats(-10.0, 10.0))
def test_shifts_along_and_across_a_circle_stay_concentric(speed_mps, amount_m):
    states = circle(speed_mps)
    across = shifted_across(states, amount_m)
    assert np.hypot(*across[:, :2].T) == pytest.approx(RADIUS_M - amount_m)  # Left is inside.
    along = shifted_along(states, amount_m)
    inner = slice(40, 41)  # Farther from both ends than any shift.
    turned = np.arctan2(along[inner, 1], along[inner, 0]) - np.arctan2(
        states[inner, 1], states[inner, 0]
    )
    assert wrap_angle(turned) * RADIUS_M == pytest.approx(amount_m, abs=0.02)
    for moved in (across, along):
        assert np.hypot(*moved[:, 4:6].T) == pytest.approx(speed_mps)


@given(st.floats(3.0, 12.0), st.floats(2.0, 6.0), st.integers(0, 40))
def test_who_brakes_stays_on_the_path_and_stops_where_physics_says(speed_mps, rate, first):
    states = at_rate(circle(speed_mps), first, -rate)
    assert np.hypot(*states[:, :2].T) == pytest.approx(RADIUS_M, abs=0.02)
    assert (states[:first] == circle(speed_mps)[:first]).all()
    speeds = np.hypot(*states[:, 4:6].T)
    assert np.diff(speeds).min() >= -0.1 * rate - 1e-9
    driven_m = np.hypot(*np.diff(states[first:, :2], axis=0).T).sum()
    seconds = min(0.1 * (len(states) - 1 - first), speed_mps / rate)
    expected_m = speed_mps * seconds - 0.5 * rate * seconds**2
    assert driven_m == pytest.approx(expected_m, abs=0.05 * speed_mps + 0.05)


@given(st.floats(3.0, 8.0), st.floats(1.0, 3.0), st.integers(30, 70))
def test_who_speeds_up_gains_no_more_than_it_may(speed_mps, rate, first):
    states = at_rate(circle(speed_mps), first, rate)
    speeds = np.hypot(*states[:, 4:6].T)
    assert np.diff(speeds).max() <= 0.1 * rate + 1e-9
    gained = min(FASTER_MPS, rate * 0.1 * (len(states) - 1 - first))
    assert speeds[-1] == pytest.approx(speed_mps + gained)


# Labels, by a checker that shares nothing with what made them.


def rectangle(pose, length_m, width_m, ahead_m=0.0):
    box = shapely.box(ahead_m - length_m / 2, -width_m / 2, ahead_m + length_m / 2, width_m / 2)
    turned = affinity.rotate(box, pose[2], origin=(0.0, 0.0), use_radians=True)
    return affinity.translate(turned, *pose[:2])


def ego_boxes(checked):
    return [rectangle(pose, *PACIFICA_M) for pose in checked.label_m]


def test_labels_touch_no_edited_road_user(town):
    _, found = town
    moved = [checked for checked in found if len(checked.edit.motion)]
    assert moved
    for checked in moved:
        motion = checked.edit.motion
        for later, ego in enumerate(ego_boxes(checked)):
            row = checked.step + later - int(motion.first_steps[0])
            if 0 <= row < len(motion.states):
                other = rectangle(motion.states[row, [0, 1, 3]], *motion.sizes_m[0, :2])
                assert not ego.intersects(other)


def test_labels_touch_nobody_but_who_comes_from_behind(town):
    log, found = town
    for checked in found:
        after = edited(log, checked.edit, checked.step)
        met = set()
        for later, ego in enumerate(ego_boxes(checked)):
            here = checked.label_m[later]
            boxes, _ = after.objects(checked.step + later, checked.seat, here)
            for k, track in enumerate(boxes.ids):
                pose = [*boxes.centers_m[k, :2], boxes.yaws_rad[k]]
                if ego.intersects(rectangle(pose, *boxes.sizes_m[k, :2])):
                    # Replayed traffic does not see the ego brake.
                    assert track in met or to_local(here, pose)[0] < 0.0
                    met.add(track)


def test_labels_stay_on_the_road(town):
    log, found = town
    polygons = log.map.polygons
    road = shapely.union_all(
        [
            shapely.Polygon(polygons[row][:, :2]).buffer(0.01)
            for row, kind in enumerate(polygons.kinds)
            if kind in (PolygonKind.DRIVABLE, PolygonKind.INTERSECTION)
        ]
    )
    assert all(road.covers(box) for checked in found for box in ego_boxes(checked))


def test_labels_pass_no_red_light(town):
    log, found = town
    for checked in found:
        after = edited(log, checked.edit, checked.step)
        route = log.route_lanes(checked.seat)
        for light, key in enumerate(after.lights.lane_ids):
            if key not in route:
                continue
            lane = log.map.lanes[key]
            ring = np.concatenate([lane.left_m[:, :2], lane.right_m[::-1, :2]])
            area = shapely.Polygon(ring).buffer(-0.01)
            for later, ego in enumerate(ego_boxes(checked)):
                red = after.lights.states[checked.step + later, light] == LightState.RED
                assert not (red and ego.intersects(area))


def test_labels_begin_where_the_log_is_and_can_be_driven(town):
    log, found = town
    for checked in found:
        ego = log.ego_state(checked.step, checked.seat)
        assert checked.label_m[0] == pytest.approx(ego.planar)
        steps = np.diff(checked.label_m, axis=0)
        heading = checked.label_m[:-1, 2]
        along = np.cos(heading) * steps[:, 0] + np.sin(heading) * steps[:, 1]
        across = np.cos(heading) * steps[:, 1] - np.sin(heading) * steps[:, 0]
        assert np.abs(across).max() < 1e-6  # No side slip at the rear axle.
        speeds = along / 0.1
        assert speeds[0] == pytest.approx(ego.vx_mps, abs=1e-6)
        # Comfort bounds of the score: NAVSIM, pdm_comfort_metrics.py.
        assert (np.diff(speeds) / 0.1).min() > -4.05
        assert (np.diff(speeds) / 0.1).max() < 2.40
        assert np.abs(wrap_angle(steps[:, 2]) / 0.1).max() < 0.95


def test_a_wall_right_in_front_has_no_label(world, stage):
    search = EditSearch(world, OPTIONS)
    for size_m in ([1.0, 7.0, 2.0], [3.0, 3.0, 3.0]):
        motion = obstacle(world, stage, ahead_m=9.0, size_m=size_m)
        label, outcome = search.label(stage, of_track(EditKind.ADD, 0.0, 9, motion))
        assert (label, outcome) == (None, "collision")


def test_a_wall_that_one_can_stop_for_has_one(world, stage):
    search = EditSearch(world, OPTIONS)
    motion = obstacle(world, stage, ahead_m=35.0, size_m=[1.0, 7.0, 2.0])
    alone = edited(world, of_track(EditKind.REMOVE, 0.0, LEADER, nobody(world)), MOMENT_STEP)
    free = replace(stage, moment=Moment(alone, EGO, MOMENT_STEP))
    # The leader would drive through the wall; it is no part of this question.
    label, _ = EditSearch(alone, OPTIONS).label(free, of_track(EditKind.ADD, 0.0, 9, motion))
    assert label is not None
    assert label[-1, 0] + 4.05 < stage.pose[0] + 35.0 - 0.5
    assert search.counts == {}


def test_a_light_that_turns_red_stops_the_ego(world, stage):
    edit = drawn(world, stage, EditKind.LIGHT)[0]
    assert int(edit.light_state) == LightState.RED
    alone = edited(world, of_track(EditKind.REMOVE, 0.0, LEADER, nobody(world)), MOMENT_STEP)
    free = stage_of(alone, MOMENT_STEP)
    label, _ = EditSearch(alone, OPTIONS).label(free, edit)
    line_m = world.map.lanes[CONNECTOR].centerline_m[0, 0]
    assert free.drive[-1, 0] > line_m
    assert label[-1, 0] + 4.05 < line_m


# The index.


@pytest.fixture
def folder(world, tmp_path):
    shutil.copytree(world.path, tmp_path / "log", ignore=shutil.ignore_patterns(INDEX))
    return tmp_path / "log"


FEW = EditOptions(count=2, seed=3)


def test_the_same_seed_gives_the_same_bytes(folder):
    index_edits(folder, FEW)
    first = (folder / INDEX).read_bytes()
    (folder / INDEX).unlink()
    index_edits(folder, FEW)
    assert (folder / INDEX).read_bytes() == first


@pytest.mark.parametrize("place", ["search", "renaming"])
def test_a_search_that_is_killed_leaves_no_index(folder, monkeypatch, place):
    def killed(*_):
        raise KeyboardInterrupt

    owner, name = (EditSearch, "at") if place == "search" else (type(folder), "replace")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            index_edits(folder, FEW)
    assert len(list(folder.glob("*.partial"))) == (place == "renaming")
    with pytest.raises(EditIndexError, match="missing or damaged; run: rap-train edits --logs"):
        EditSource([DriveLog.open(folder)], EditConfig(), ModelConfig())
    index_edits(folder, FEW)
    assert len(EditSource([DriveLog.open(folder)], EditConfig(), ModelConfig())) == FEW.count
    assert not list(folder.glob("*.partial"))


def test_a_complete_index_is_kept_and_a_damaged_one_is_made_again(folder, monkeypatch):
    counts = index_edits(folder, FEW)
    whole = (folder / INDEX).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(EditSearch, "found", None)  # Not needed.
        assert index_edits(folder, FEW) == counts
    (folder / INDEX).write_bytes(whole[: len(whole) // 2])
    assert index_edits(folder, FEW) == counts
    assert (folder / INDEX).read_bytes() == whole


def test_an_index_of_another_log_is_refused(folder):
    index_edits(folder, FEW)
    index = (folder / INDEX).read_bytes()
    log = write_world(folder, name="another")
    with pytest.raises(EditIndexError, match="missing"):
        EditIndex.open(log)
    (folder / INDEX).write_bytes(index)
    with pytest.raises(EditIndexError, match="another version of the log; run: rap-train edits"):
        EditIndex.open(log)


def test_an_index_holds_what_was_found(folder):
    log = DriveLog.open(folder)
    search = EditSearch(log, FEW)
    found = list(search.found())
    index_edits(folder, FEW)
    index = EditIndex.open(log)
    assert index.counts == search.counts
    for row, checked in enumerate(found):
        read = index[row]
        assert (read.seat, read.step, read.edit.kind) == (
            checked.seat,
            checked.step,
            checked.edit.kind,
        )
        assert (read.label_m == checked.label_m).all()
        for field in ("ids", "classes", "sizes_m", "first_steps", "last_steps", "states"):
            wanted = getattr(checked.edit.motion, field)
            got = getattr(read.edit.motion, field)
            assert got.dtype == wanted.dtype
            assert (got == wanted).all()


# The source and the command.


def test_a_situation_shows_the_edit_and_ends_where_the_label_ends(town):
    log, found = town
    source = EditSource([log, log], EditConfig(), ModelConfig())
    assert len(source) == 2 * len(found)
    for start in range(len(source)):
        checked = found[start % len(found)]
        situation = source.situation(start, np.random.default_rng(0))
        assert situation.details["edit"].replace(" ", "_") == checked.edit.kind.name.lower()
        assert source.moment(start).step == checked.step
        end = to_parent(situation.ego.planar, situation.path_m[-1])
        assert end == pytest.approx(checked.label_m[-1])
        shown = checked.edit.track in situation.boxes.ids
        if checked.edit.kind is EditKind.REMOVE:
            assert not shown
        elif checked.edit.track:
            row = checked.step - int(checked.edit.motion.first_steps[0])
            state = checked.edit.motion.states[row]
            near = np.abs(state[:2] - situation.ego.planar[:2]).max() < 100.0
            assert shown == near
            if shown:
                k = situation.boxes.ids.tolist().index(checked.edit.track)
                assert (situation.boxes.centers_m[k, :2] == state[:2]).all()


def test_a_mixture_draws_edits(town):
    log, _ = town
    config = SourcesConfig(ego=EgoConfig(weight=0.0), edit=EditConfig(weight=1.0))
    config = config.model_copy(
        update={"cross_agent": config.cross_agent.model_copy(update={"weight": 0.0})}
    )
    draw = mixture_of([log], config, ModelConfig()).draw(np.random.default_rng(0))
    assert draw.situation.kind.name == "EDIT"


def test_a_model_that_looks_too_far_is_refused(town):
    log, _ = town
    with pytest.raises(EditIndexError, match="looks 6 s ahead, the labels of edits reach 5 s"):
        EditSource([log], EditConfig(), ModelConfig(horizon_steps=12))
    with pytest.raises(EditIndexError, match=r"looks 3\.5 s back, edited logs reach 3 s"):
        EditSource([log], EditConfig(), ModelConfig(history_steps=8))


def test_the_command_tells_what_was_tried_and_kept(folder):
    result = CliRunner().invoke(
        app, ["edits", "--logs", str(folder.parent), "--count", "2", "--seed", "3"]
    )
    assert result.exit_code == 0
    counts = EditIndex.open(DriveLog.open(folder)).counts
    kept = sum(outcomes.get("kept", 0) for kind, outcomes in counts.items() if kind != "starts")
    assert kept == FEW.count == len(EditIndex.open(DriveLog.open(folder)))
    for kind in counts:
        assert kind in result.output
