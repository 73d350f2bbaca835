from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import webdataset
from ray import cloudpickle

from rap_evaluation import camera_sim
from rap_evaluation.logs.drive_log import LogError
from rap_evaluation.logs.log_writer import write_log
from rap_evaluation.sharding import LOCAL
from rap_raster.styles import StyleError
from rap_training.augmentation.mixture import mixture_of
from rap_training.config import (
    CameraConfig,
    DataConfig,
    OptimizerConfig,
    RecoveryConfig,
    SourcesConfig,
    TrainingConfig,
)
from rap_training.dataset import DriveDataset
from rap_training.shards import MANIFEST_NAME, ShardError, ShardPlan, write_shards

pytestmark = pytest.mark.slow

CONFIG = TrainingConfig(
    data=DataConfig(image_size=(64, 32), cameras=CameraConfig(share=0.3)),
    optimizer=OptimizerConfig(seed=5),
)


def plan_for(logs, out, samples: int = 50, shard_size: int = 20) -> ShardPlan:
    return ShardPlan(logs, out, CONFIG, samples, shard_size)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def written(town_logs, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "new"
    return out, write_shards(plan_for(town_logs, out))


# WebDataset leaves closing its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_what_the_loader_draws(written, town_log):
    out, _ = written
    url = str(out / "shard-{000000..000002}.tar")
    read = list(webdataset.WebDataset(url, shardshuffle=False).decode("rgb8"))
    dataset = DriveDataset(mixture_of([town_log], CONFIG.data.sources, CONFIG.model), CONFIG, 50)
    assert [r["__key__"] for r in read] == [f"{i:09d}" for i in range(50)]
    for index in (0, 19, 20, 49):
        sample, found = dataset[index], read[index]
        cameras = ("front", "front_left", "front_right")
        rasters = np.stack([found[f"raster.{name}.png"] for name in cameras])
        assert np.array_equal(rasters, sample["rasters"])
        assert ("image.front.jpg" in found) == bool(sample["has_images"])
        for name in ("history", "route", "image_from_ego", "camera_valid", "target"):
            assert np.array_equal(found[f"{name}.npy"], sample[name])
        assert found["json"]["source"] == ("ego", "recovery", "cross_agent")[sample["source"]]


def test_the_manifest_says_what_is_in_the_shards(written, town_log):
    out, manifest = written
    assert json.loads((out / MANIFEST_NAME).read_text()) == manifest
    assert manifest["schema"] == "rap.shards/2"
    assert manifest["complete"] is True
    assert manifest["seed"] == 5
    assert [s["samples"] for s in manifest["shards"]] == [20, 20, 10]
    assert sum(manifest["sources"].values()) == 50
    assert manifest["logs"][0]["license"] == town_log.license
    assert "CC BY 4.0" in manifest["logs"][0]["license"]


def test_who_writes_which_shard_makes_no_difference(written, town_logs, tmp_path, monkeypatch):
    """As on a cluster, of which `test_pseudo_sim` starts a real one: every shard is written by a
    worker that was sent there, and the last one is finished first."""

    def sent_around(items, make_worker, **_):
        sent = cloudpickle.dumps(make_worker)
        results = [cloudpickle.loads(sent)()(item) for item in reversed(items)]
        return results[::-1]

    monkeypatch.setattr("rap_training.shards.process", sent_around)
    out, manifest = written
    assert write_shards(plan_for(town_logs, tmp_path), ray_address=LOCAL) == manifest
    assert contents(tmp_path) == contents(out)


WRITER = """
import sys
from pathlib import Path
from rap_training.config import TrainingConfig
from rap_training.shards import ShardPlan, write_shards
logs, out, config = map(Path, sys.argv[1:])
settings = TrainingConfig.model_validate_json(config.read_text())
write_shards(ShardPlan(logs, out, settings, 160, 20))
"""


def test_a_killed_run_goes_on_to_the_same_bytes(town_logs, tmp_path):
    out, config = tmp_path / "killed", tmp_path / "config.json"
    config.write_text(CONFIG.model_dump_json())
    command = [sys.executable, "-c", WRITER, *map(str, (town_logs, out, config))]
    environment = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    process = subprocess.Popen(command, env=environment)
    while not ((out / "shard-000002.tar").exists() and list(out.glob("shard-*.partial"))):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "shard-000007.tar").exists()
    assert json.loads((out / MANIFEST_NAME).read_text())["complete"] is False
    plans = [plan_for(town_logs, folder, samples=160) for folder in (out, tmp_path / "whole")]
    for plan in plans:
        write_shards(plan)
    assert contents(plans[0].out) == contents(plans[1].out)


def test_half_a_shard_and_a_missing_one_are_written_again(written, town_logs, tmp_path):
    out, _ = written
    write_shards(plan_for(town_logs, tmp_path))
    whole = (tmp_path / "shard-000001.tar").read_bytes()
    (tmp_path / "shard-000001.tar").unlink()
    (tmp_path / "shard-000001.tar.77.partial").write_bytes(whole[: len(whole) // 2])
    write_shards(plan_for(town_logs, tmp_path))
    assert contents(tmp_path) == contents(out)


def test_a_run_that_was_killed_before_its_manifest_goes_on(written, town_logs, tmp_path):
    out, _ = written
    (tmp_path / f"{MANIFEST_NAME}.77.partial").write_text("{")
    write_shards(plan_for(town_logs, tmp_path))
    assert contents(tmp_path) == contents(out)


def test_a_preset_that_was_edited_makes_other_shards(town_logs, tmp_path):
    preset = tmp_path / "mine.yaml"
    recovery = RecoveryConfig(preset=str(preset))
    data = CONFIG.data.model_copy(update={"sources": SourcesConfig(recovery=recovery)})
    plan = replace(
        plan_for(town_logs, tmp_path / "out", samples=2),
        config=CONFIG.model_copy(update={"data": data}),
    )
    preset.write_text("perturbation: {lateral_m: {kind: uniform, low: -1.0, high: 1.0}}")
    write_shards(plan)
    preset.write_text("perturbation: {lateral_m: {kind: uniform, low: -2.0, high: 2.0}}")
    with pytest.raises(ShardError, match="another 'recovery_preset'"):
        write_shards(plan)


def test_another_camera_simulator_makes_other_shards(town_logs, tmp_path, monkeypatch):
    plan = plan_for(town_logs, tmp_path / "out", samples=2)
    write_shards(plan)
    monkeypatch.setattr(camera_sim, "VERSION", camera_sim.VERSION + 1)
    with pytest.raises(ShardError, match="another 'camera_simulator'"):
        write_shards(plan)


def test_logs_that_are_not_for_training_make_no_shards(town_recording, tmp_path):
    elsewhere = replace(town_recording.map, name="Town02")
    write_log(tmp_path / "logs" / "town", replace(town_recording, map=elsewhere))
    with pytest.raises(LogError, match="is of Town02"):
        write_shards(plan_for(tmp_path / "logs", tmp_path / "out"))


def test_a_folder_of_something_else_is_refused(written, town_logs, tmp_path):
    out, _ = written
    with pytest.raises(ShardError, match="another 'samples'"):
        write_shards(plan_for(town_logs, out, samples=51))
    (tmp_path / "photo.png").write_bytes(b"mine")
    with pytest.raises(ShardError, match="not empty"):
        write_shards(plan_for(town_logs, tmp_path))
    assert (tmp_path / "photo.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "damage", [lambda tar: tar[: len(tar) // 2 + 100], lambda tar: b"x" * 2000]
)
def test_a_damaged_shard_is_named(town_logs, tmp_path, damage):
    plan = plan_for(town_logs, tmp_path, samples=2, shard_size=2)
    write_shards(plan)
    plan.path(0).write_bytes(damage(plan.path(0).read_bytes()))
    with pytest.raises(ShardError, match=r"shard-000000\.tar: is damaged"):
        write_shards(plan)


def test_a_style_that_does_not_exist_leaves_no_folder(town_logs, tmp_path):
    config = TrainingConfig(data=DataConfig(style="nosuch"))
    with pytest.raises(StyleError, match="nosuch"):
        write_shards(ShardPlan(town_logs, tmp_path / "out", config, 2, 2))
    assert not (tmp_path / "out").exists()
