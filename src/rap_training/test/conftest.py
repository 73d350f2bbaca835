"""One simulated log for all tests that need traffic; helpers of the tests made importable."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rap_evaluation.logs.drive_log import DriveLog
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.traffic.network import default_cache
from rap_evaluation.traffic.recorder import record
from rap_evaluation.traffic.simulation import RecordOptions
from rap_evaluation.traffic.towns import map_path
from rap_raster.scene import ObjectClass
from rap_training.augmentation.edits.index import EditOptions
from rap_training.augmentation.edits.source import index_edits

torch.set_num_threads(1)  # As in trainings on processors; `fit` says why.

for _name in (
    "edit_worlds",
    "label_checker",
    "published_reference",
    "released_checkpoint",
    "source_draws",
    "straight_road",
):
    _spec = importlib.util.spec_from_file_location(_name, Path(__file__).with_name(f"{_name}.py"))
    sys.modules[_name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_name])


@pytest.fixture(scope="session")
def town_recording():
    """Twenty seconds of traffic in Town01."""
    return record(map_path("Town01"), RecordOptions(20.0, 3, 25, 10), default_cache())


@pytest.fixture(scope="session")
def town_logs(town_recording, tmp_path_factory):
    """The same as a folder with one log."""
    folder = tmp_path_factory.mktemp("logs")
    write_log(folder / "town", town_recording)
    return folder


@pytest.fixture(scope="session")
def town_log(town_logs):
    return DriveLog.open(town_logs / "town")


@pytest.fixture(scope="session")
def edited_town(town_recording, tmp_path_factory):
    """The same traffic as seen by all its cars, with an index of edits."""
    tracks = town_recording.tracks
    cars = tuple(int(track) for track in tracks.ids[tracks.classes == ObjectClass.VEHICLE])
    path = tmp_path_factory.mktemp("edited") / "town"
    write_log(path, replace(town_recording, egos=cars))
    index_edits(path, EditOptions(count=12, seed=1))
    return DriveLog.open(path)
