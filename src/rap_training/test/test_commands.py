"""From logs to a bundle by the commands that people type."""

from __future__ import annotations

import csv
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from rap_evaluation.logs.log_writer import write_log
from rap_inference.bundle import BundleError, load_bundle
from rap_raster.scene import Shapes
from rap_training import cli, commands, parity
from rap_training.augmentation.mixture import mixture_of
from rap_training.calibration import Calibration
from rap_training.config import TrainingConfig
from rap_training.dataset import DriveDataset
from rap_training.export import export_bundle
from rap_training.fit import LOG_NAME, CheckpointError, load_model
from rap_training.normalization import normalize

pytestmark = pytest.mark.slow

TOY = """
name: toy
model:
  backbone: {widths: [8, 16, 16]}
  feature_channels: 16
  width: 32
  query_width: 16
  proposals: 8
  braking_mps2: [2.0, 6.0]
data:
  image_size: [64, 32]
  cameras: {share: 0.5, samples: 8}
  sources: {recovery: {weight: 0.0}}
optimizer: {steps: 4, batch_size: 4}
loss: {scored_share: 0.5}
"""


@pytest.fixture(scope="module")
def checkpoint(town_logs, tmp_path_factory):
    """Trained by two processes, as `make bundle` does; they start as commands of their own."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.yaml").write_text(TOY)
    command = [
        str(Path(sys.executable).with_name("rap-train")), "fit", "--logs", str(town_logs),
        "--config", str(folder / "toy.yaml"), "--out", str(folder / "fit"),
        "--accelerator", "cpu", "--devices", "2", "--workers", "0",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "starts in the logs" in done.stdout
    return folder / "fit"


def export(checkpoint, logs, out, monkeypatch):
    monkeypatch.setattr("rap_training.calibration.SAMPLES", 32)
    arguments = ["export", str(checkpoint), "--logs", str(logs), "--out", str(out)]
    return CliRunner().invoke(commands.app, arguments, catch_exceptions=False)


def test_two_processes_train_one_model(checkpoint):
    with (checkpoint / LOG_NAME).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    model, config = load_model(checkpoint)
    assert config.name == "toy"
    assert all(torch.isfinite(x).all() for x in model.state_dict().values())


@pytest.fixture(scope="module")
def exported_toy(checkpoint, town_logs, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "toy"
    with pytest.MonkeyPatch.context() as monkeypatch:
        done = export(checkpoint, town_logs, out, monkeypatch)
    assert done.exit_code == 0, done.output
    return out


def test_an_export_is_checked_on_real_samples_and_calibrated(exported_toy):
    metrics = load_bundle(exported_toy).manifest.metrics
    assert 0.0 < metrics["onnx_difference"] < 1e-4
    assert metrics["calibration_error_calibrated"] < metrics["calibration_error_raw"]
    assert [path.name for path in exported_toy.parent.iterdir()] == ["toy"]


def test_calibration_errors_are_of_samples_that_nothing_was_fitted_to(
    checkpoint, town_logs, tmp_path, monkeypatch
):
    seen = {}

    def spied(name):
        used = getattr(commands, name)

        def spy(found, *rest):
            seen[name] = {row.numpy().tobytes() for row in found.logits.flatten(0, 1)}
            return used(found, *rest)

        monkeypatch.setattr(commands, name, spy)

    spied("fitted")
    spied("calibration_errors")
    export(checkpoint, town_logs, tmp_path / "toy", monkeypatch)
    assert seen["fitted"]
    assert seen["calibration_errors"]
    assert not seen["fitted"] & seen["calibration_errors"]


@pytest.mark.parametrize("shift", [0.01, math.nan])
def test_networks_that_differ_or_give_no_numbers_are_refused(checkpoint, town_log, tmp_path, shift):
    model, config = load_model(checkpoint)
    calibration = Calibration()
    calibration.shift += shift
    said = {"maps": (), "data_license": "", "command": "", "metrics": {}}
    bundle = export_bundle(model, config, tmp_path, **said, calibration=calibration)
    mixture = mixture_of([town_log], config.data.sources, config.model)
    compared = Calibration() if shift == 0.01 else calibration  # NaN equals NaN, but is no score.
    with pytest.raises(BundleError, match="the exported networks differ from their model by"):
        parity.check_parity(bundle, model, compared, mixture, config)


@pytest.mark.parametrize("kinds", [("rasters", "images"), ("images",)])
def test_exported_networks_are_compared_on_all_that_the_training_looked_at(
    checkpoint, town_log, tmp_path, monkeypatch, kinds
):
    model, config = load_model(checkpoint)
    share = {("rasters", "images"): 0.1, ("images",): 1.0}[kinds]
    content = config.model_dump()
    content["data"]["rasters"] = "rasters" in kinds
    content["data"]["cameras"]["share"] = share
    config = TrainingConfig.model_validate(content)
    bundle = export_bundle(
        model, config, tmp_path, maps=(), data_license="", command="", metrics={}
    )
    shown = []

    def recorded(images):
        shown.append(images)
        return normalize(images)

    monkeypatch.setattr(parity, "normalize", recorded)
    mixture = mixture_of([town_log], config.data.sources, config.model)
    parity.check_parity(bundle, model, Calibration(), mixture, config)
    content["data"]["cameras"]["share"] = 1.0  # So that every sample has images.
    dataset = DriveDataset(mixture, TrainingConfig.model_validate(content), parity.SAMPLES)
    wanted = {dataset[k][kind].numpy().tobytes() for k in range(parity.SAMPLES) for kind in kinds}
    assert {images.numpy().tobytes() for images in shown} == wanted


def test_other_logs_than_those_of_the_training_are_no_model_card(
    checkpoint, town_recording, tmp_path, monkeypatch
):
    others = replace(town_recording, license="somebody else's")
    write_log(tmp_path / "logs" / "town", others)
    with pytest.raises(CheckpointError, match="was trained on other logs"):
        export(checkpoint, tmp_path / "logs", tmp_path / "toy", monkeypatch)
    assert not (tmp_path / "toy").exists()


def test_what_a_loader_finds_wrong_is_said_in_one_line(town_recording, tmp_path):
    """It comes out of another process, with that one's traceback in it."""
    nowhere = replace(town_recording.map, polygons=Shapes.from_list([]), lanes={})
    write_log(tmp_path / "logs" / "town", replace(town_recording, map=nowhere))
    (tmp_path / "toy.yaml").write_text(
        "{model: {selection: {imitation: 1}}, loss: {scored_share: 0}, optimizer: {steps: 1}, "
        "data: {sources: {recovery: {weight: 1}}}}"
    )
    command = [
        str(Path(sys.executable).with_name("rap-train")), "fit", "--logs", str(tmp_path / "logs"),
        "--config", str(tmp_path / "toy.yaml"), "--out", str(tmp_path / "fit"), "--workers", "1",
        "--accelerator", "cpu",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("rap-train: sources: recovery: nothing in "), done.stderr
    assert "Traceback" not in done.stderr


def test_a_loader_may_say_it_in_several_lines():
    """As numpy and pydantic do, and loaders that load with loaders."""

    def trace(told):
        return f'\nOriginal Traceback (newest last):\n  File "a.py", line 1\n    f()\n{told}\n'

    inner = trace("ValueError: shapes differ\n  left (3,)\n  right (4,)")
    for text in (inner, trace(f"RuntimeError: Caught it.{inner}")):
        assert cli._one_line(ValueError(text)) == "shapes differ left (3,) right (4,)"


def test_networks_that_differ_from_their_model_do_not_replace_a_bundle(
    checkpoint, town_logs, exported_toy, tmp_path, monkeypatch
):
    out = tmp_path / "toy"
    shutil.copytree(exported_toy, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def exported(model, config, *args, **named):
        other = Calibration()
        other.shift += 0.01
        return export_bundle(model, config, *args, **(named | {"calibration": other}))

    export_bundle = commands.export_bundle
    monkeypatch.setattr(commands, "export_bundle", exported)
    with pytest.raises(BundleError, match="the exported networks differ from their model by"):
        export(checkpoint, town_logs, out, monkeypatch)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
