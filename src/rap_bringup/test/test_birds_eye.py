from __future__ import annotations

import numpy as np

from rap_bringup.birds_eye import BACKGROUND, View, draw_birds_eye, score_colors
from rap_bringup.instants import Instant, Proposals
from rap_raster.ego_history import EgoState

VIEW = View(width=420, height=200, behind_m=10.0, ahead_m=95.0)


def instant(x_m=100.0, y_m=50.0, yaw_rad=0.0, *, objects=None) -> Instant:
    forward = np.array([np.cos(yaw_rad), np.sin(yaw_rad)])
    places = np.array([x_m, y_m]) + np.outer(np.arange(1, 11) * 4.0, forward)
    poses = np.column_stack([places, np.full(10, yaw_rad)])
    return Instant(
        stamp_ns=0,
        ego=EgoState(0, x_m, y_m, 0.0, yaw_rad, 8.0, 0.0, 0.0),
        objects=objects,
        map=None,
        images={},
        rasters={},
        sources={},
        proposals=Proposals(poses[None], np.zeros(1, np.float32), 1, 0.5),
        trajectory_m=places,
        driven_m=np.zeros((0, 2)),
    )


def test_forward_is_right_and_left_is_up():
    pixels = VIEW.pixels(np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])) / 16
    origin, ahead, left = pixels
    assert ahead[0] > origin[0]
    assert ahead[1] == origin[1]
    assert left[1] < origin[1]
    assert left[0] == origin[0]


def test_picture_does_not_depend_on_where_the_drive_is_on_the_map():
    """Invariance under a rigid motion of everything."""
    here = draw_birds_eye(instant(), VIEW)
    there = draw_birds_eye(instant(3000.0, -1200.0, 2.1), VIEW)
    assert (np.abs(here.astype(int) - there).max(axis=2) > 40).mean() < 1e-3


def test_objects_are_drawn_where_they_are(drive):
    empty = draw_birds_eye(instant(), VIEW)
    objects = drive.objects[0]
    full = draw_birds_eye(instant(objects=objects), VIEW)
    rows, columns = np.nonzero((full != empty).any(axis=2))
    car = VIEW.pixels(objects.boxes.centers_m[:1, :2] - [100.0, 50.0])[0] / 16
    assert np.hypot(columns - car[0], rows - car[1]).min() < 2
    changed_m = (columns / VIEW.pixels_per_m) - VIEW.behind_m
    assert changed_m.min() > 15  # nothing is drawn where there is no object
    assert tuple(empty[5, 5]) == BACKGROUND


def test_the_best_proposal_is_the_brightest():
    colors = score_colors(np.array([0.1, 5.0, -3.0])).astype(int).sum(axis=1)
    assert np.argsort(colors).tolist() == [2, 0, 1]
