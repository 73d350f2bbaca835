from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from rap_evaluation.logs.drive_log import LogError
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.logs.recording import LightTracks, Recording, Tracks
from rap_evaluation.map_split import TRAIN_MAPS, VALIDATION_MAPS, may_train
from rap_raster.maps.vector_map import VectorMap
from rap_raster.scene import ObjectClass, Shapes
from rap_training.config import ConfigError, LossConfig
from rap_training.training_logs import check_scorable, open_training_logs

STEPS = 61  # Six seconds at 10 Hz: a moment needs five of future.


def write_straight_drive(path, map_name: str) -> None:
    """A log of one car that drives straight on for six seconds."""
    x = 0.8 * np.arange(STEPS)
    states = np.zeros((STEPS, 7))
    states[:, 0], states[:, 4] = x, 8.0
    tracks = Tracks(
        ids=np.array([1], np.int32),
        source_ids=np.array([1], np.int64),
        classes=np.array([ObjectClass.VEHICLE], np.uint8),
        sizes_m=np.array([[4.6, 1.9, 1.5]]),
        rear_axles_m=np.array([1.3]),
        first_steps=np.array([0], np.int32),
        last_steps=np.array([STEPS - 1], np.int32),
        states=states,
        observed=np.ones(STEPS, np.bool_),
    )
    lights = LightTracks(
        (), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros((STEPS, 0), np.uint8)
    )
    nothing = Shapes.from_list([])
    stamps = np.arange(STEPS, dtype=np.int64) * 100_000_000
    write_log(
        path, Recording("drive", VectorMap(map_name, nothing, nothing), stamps, tracks, lights)
    )


def test_no_town_is_in_both_groups():
    assert not set(TRAIN_MAPS) & set(VALIDATION_MAPS)


@pytest.mark.parametrize("name", ["Town02", "Town05", "Town07", "Town10HD"])
def test_a_town_that_is_not_for_training_is_refused(tmp_path, name):
    write_straight_drive(tmp_path / "log", name)
    with pytest.raises(LogError, match=f"is of {name}"):
        open_training_logs(tmp_path)


@pytest.mark.parametrize("name", ["Town01", "my-test-track", "Townsville"])
def test_training_towns_and_maps_of_ones_own_are_taken(tmp_path, name):
    assert may_train(name)
    write_straight_drive(tmp_path / "log", name)
    assert open_training_logs(tmp_path)


def test_scores_without_any_road_are_refused_before_the_training(town_log):
    """And not at its end, by the export."""
    nowhere = Shapes.from_list([])
    log = copy.copy(town_log)
    log.map = replace(town_log.map, polygons=nowhere)
    check_scorable([log, town_log], LossConfig())
    check_scorable([log], LossConfig(scored_share=0.0))
    with pytest.raises(ConfigError, match=r"loss\.scored_share: .* --map, or set it to 0$"):
        check_scorable([log], LossConfig())
