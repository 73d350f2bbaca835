from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rap_evaluation.camera_sim import CameraSimulator
from rap_planner.route import Command
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState
from rap_raster.geometry import Geometry, build_geometry
from rap_raster.scene import Boxes, Lights, LineKind, Scene, Shapes
from rap_raster.styles import Style
from rap_raster.vehicle import PACIFICA
from rap_training import fit as fit_module
from rap_training.alignment import CLASSIFIER_RATE
from rap_training.augmentation.mixture import Draw
from rap_training.augmentation.situation import DROPS, SourceKind
from rap_training.config import (
    ConfigError,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
    load_config,
)
from rap_training.dataset import DriveDataset
from rap_training.fit import (
    LOG_NAME,
    STATE_NAME,
    WEIGHTS_NAME,
    CheckpointError,
    DivergenceError,
    Machine,
    fit,
    load_model,
    steps_made,
)
from rap_training.objective import Objective

pytestmark = pytest.mark.slow

SPEED_MPS = 8.0
SKIPS_THE_FIRST_STEP = pytest.mark.filterwarnings(
    "ignore:Detected call of `lr_scheduler.step:UserWarning"
)
"""Float16 does: its gradients are scaled up until they overflow."""

LINES = Shapes.from_list([(LineKind.ROAD_BOUNDARY, [[x, 4.0, 0.0] for x in range(0, 60, 10)])])
SIMULATOR = CameraSimulator(LINES, Shapes.from_list([]))


class ToySituation:
    """A straight road that the ego leaves to the side where a box stands."""

    kind = SourceKind.EGO
    vehicle = PACIFICA
    command = Command.STRAIGHT
    ego = EgoState(0, 0.0, 0.0, 0.0, 0.0, SPEED_MPS, 0.0, 0.0)
    route_m = None
    moment = SimpleNamespace(log=SimpleNamespace(pictured_digest="toy"))
    lights = Lights.empty()

    def __init__(self, number: int) -> None:
        self.left = number % 2 == 0
        side = 6.0 if self.left else -6.0
        self.boxes = Boxes.from_rows([[1, 2, 15.0, side, 1.5, 8.0, 3.0, 3.0, 0.0, 0.0, 0.0]])

    def scene(self) -> Scene:
        return Scene(
            ego=self.ego.pose,
            boxes=self.boxes,
            polylines=LINES,
            polygons=Shapes.from_list([]),
            lights=self.lights,
        )

    def geometry(self, style: Style) -> Geometry:
        return build_geometry(self.scene(), style)

    def camera_image(self, camera: CameraModel, seed: int) -> np.ndarray:
        scene = self.scene()
        return SIMULATOR.image(scene.ego, scene.boxes, scene.lights, camera, seed=seed)

    @property
    def history(self) -> np.ndarray:
        steps, dt_s = 4, 0.5
        rows = np.zeros((steps, 7), dtype=np.float32)
        rows[:, 0] = SPEED_MPS * dt_s * (np.arange(steps) - steps + 1)
        rows[:, 3], rows[:, 6] = SPEED_MPS, 1.0
        return rows

    def future_m(self, steps: int, dt_s: float) -> np.ndarray:
        yaw = (0.05 if self.left else -0.05) * SPEED_MPS * dt_s * np.arange(1, steps + 1)
        radius = 20.0 if self.left else -20.0
        return np.stack([radius * np.sin(yaw), radius * (1 - np.cos(yaw)), yaw], axis=1)


class ToyMixture:
    """Draws toys, and counts one dropped draw each."""

    sources = ()

    def draw(self, rng: np.random.Generator) -> Draw:
        number = int(rng.integers(8))
        drops = np.eye(len(DROPS), dtype=np.int64)[0]
        return Draw(ToySituation(number), number, 1.0, drops)


TOYS = ToyMixture()
ORIGIN = {"logs": [{"name": "toys"}]}


def toy_config(steps: int, precision: str = "32-true", **data: object) -> TrainingConfig:
    return TrainingConfig(
        model=ModelConfig(backbone={"widths": (8, 16, 16)}, feature_channels=16, width=32,
                          query_width=16, proposals=8, braking_mps2=(2.0, 6.0),
                          selection={"imitation": 1.0}),
        data=DataConfig(cameras={"share": 0.5, "views": "any"}, **data),
        optimizer=OptimizerConfig(steps=steps, batch_size=4, learning_rate=3e-3,
                                  precision=precision),
        loss=LossConfig(scored_share=0.0, other_proposals=0.0),  # Toys have no map to be scored on.
    )  # fmt: skip


def run(config: TrainingConfig, out, workers: int = 0) -> None:
    fit(TOYS, config, out, ORIGIN, machine=Machine(accelerator="cpu", workers=workers))


def weights(out) -> dict[str, torch.Tensor]:
    return load_model(out)[0].state_dict()


def test_an_index_always_gives_the_same_bytes():
    first, second = (DriveDataset(TOYS, toy_config(10), 40) for _ in range(2))
    for index in (0, 7, 39):
        a, b = first[index], second[index]
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(first[0]["image_from_ego"], first[1]["image_from_ego"])


def test_camera_images_are_there_exactly_where_the_sample_says_so():
    dataset = DriveDataset(TOYS, toy_config(10), 20)
    flags = [
        (bool(s["has_images"]), bool(s["images"].any()))
        for s in map(dataset.__getitem__, range(20))
    ]
    assert {shown for _, shown in flags} == {True, False}
    assert all(said == shown for said, shown in flags)


def test_loss_falls(tmp_path):
    run(toy_config(40), tmp_path)
    rows = rows_of(tmp_path)
    losses = [float(row["imitation"]) for row in rows]
    assert len(losses) == 40
    known = np.array([float(row["domain_accuracy"]) for row in rows])
    photographed = ~np.isnan(known)  # Batches of four may have no image, and nothing to tell apart.
    assert 20 < photographed.sum() < 40
    assert ((known[photographed] >= 0.0) & (known[photographed] <= 1.0)).all()
    assert np.ptp(known[photographed]) > 0.0
    assert {(row["ego"], row["recovery"], row["dropped"]) for row in rows} == {("4", "0", "4")}
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


@SKIPS_THE_FIRST_STEP
@pytest.mark.parametrize(
    ("workers", "precision"), [(0, "32-true"), (2, "32-true"), (0, "bf16-mixed"), (0, "16-mixed")]
)
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, monkeypatch, workers, precision):
    config = toy_config(4, precision)
    run(config, tmp_path / "whole")
    monkeypatch.setattr("rap_training.fit.CHECKPOINT_EVERY", 2)
    monkeypatch.setattr("rap_training.fit._log", _killed_at(4))
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "killed", workers)
    monkeypatch.undo()
    assert len(rows_of(tmp_path / "killed")) == 3
    run(config, tmp_path / "killed", workers)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")


def rows_of(out) -> list[dict[str, str]]:
    with (out / LOG_NAME).open() as file:
        return list(csv.DictReader(file))


def _killed_at(fatal_step: int):
    def log(path, step, outcome, batch):
        if step == fatal_step:
            raise KeyboardInterrupt
        written(path, step, outcome, batch)

    written = fit_module._log
    return log


@SKIPS_THE_FIRST_STEP
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision_begins_with_the_same_losses_and_learns(tmp_path, precision):
    run(toy_config(1), tmp_path / "single")
    run(toy_config(30, precision), tmp_path / "half")
    (single,), half = rows_of(tmp_path / "single"), rows_of(tmp_path / "half")
    for term in ("imitation", "likeness", "cells", "spatial", "domain"):
        assert float(half[0][term]) == pytest.approx(float(single[term]), rel=0.02)
    losses = [float(row["imitation"]) for row in half]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_classifier_learns_faster_than_the_model(schedule):
    objective = Objective(toy_config(4))
    optimizer, _ = fit_module._optimizer(objective, OptimizerConfig(schedule=schedule))
    rates = {x: group["lr"] for group in optimizer.param_groups for x in group["params"]}
    assert rates.keys() == set(objective.parameters())  # Each once.
    own = {rates[x] for x in objective.classifier.parameters()}
    rest = {rates[x] for x in objective.parameters()} - own
    assert [rate / next(iter(rest)) for rate in own] == pytest.approx([CLASSIFIER_RATE])
    assert CLASSIFIER_RATE > 1.0


def test_what_a_run_without_a_checkpoint_logged_is_no_part_of_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("rap_training.fit._log", _killed_at(3))
    with pytest.raises(KeyboardInterrupt):
        run(toy_config(5), tmp_path)
    monkeypatch.undo()
    run(toy_config(2), tmp_path)
    assert [row["step"] for row in rows_of(tmp_path)] == ["1", "2"]


def resumed(out) -> None:
    run(toy_config(2), out)


@pytest.mark.parametrize(("name", "used"), [(STATE_NAME, resumed), (WEIGHTS_NAME, load_model)])
def test_damaged_checkpoints_are_named_in_one_line(tmp_path, name, used):
    run(toy_config(2), tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=tmp_path.name) as caught:
        used(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU where there is none")
def test_a_missing_gpu_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="1 gpu devices: "):
        fit(TOYS, toy_config(2), tmp_path, ORIGIN, machine=Machine(accelerator="gpu"))


def test_a_folder_with_another_run_is_refused(tmp_path):
    run(toy_config(2), tmp_path)
    with pytest.raises(CheckpointError, match="another configuration"):
        run(toy_config(3), tmp_path)


def test_a_run_does_not_go_on_with_other_logs(tmp_path):
    run(toy_config(2), tmp_path)
    others = {"logs": [{"name": "others"}]}
    with pytest.raises(CheckpointError, match="was trained on other logs"):
        fit(TOYS, toy_config(2), tmp_path, others, machine=Machine("cpu"))
    (tmp_path / "origin.json").unlink()
    with pytest.raises(CheckpointError, match=r"origin.json: is missing: an earlier version"):
        run(toy_config(2), tmp_path)


def test_more_devices_than_samples_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="5 devices cannot share batches of 4"):
        fit(TOYS, toy_config(2), tmp_path, ORIGIN, machine=Machine("cpu", devices=5))


@pytest.mark.parametrize("size", [(60, 32), (64, 16)])
def test_images_that_the_backbone_cannot_divide_are_refused(tmp_path, size):
    message = rf"data.image_size: {size[0]}x{size[1]}: the backbone plain needs multiples of 16, 32"
    with pytest.raises(ConfigError, match=message):
        run(toy_config(2, image_size=size), tmp_path)


def test_images_that_are_no_whole_cells_are_refused_where_cells_are_taught(tmp_path):
    """ViT-S/14 can divide them, but labels of 16 x 16 pixels would be of other places."""
    config = toy_config(2, image_size=(140, 70))
    backbone = TrainingConfig(model={"backbone": {"name": "vit_s14"}}).model.backbone
    model = config.model.model_copy(update={"backbone": backbone})
    with pytest.raises(ConfigError, match=r"140x70: loss.cells needs multiples of 16"):
        run(config.model_copy(update={"model": model}), tmp_path)


@SKIPS_THE_FIRST_STEP
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_a_training_that_diverges_says_so(tmp_path, monkeypatch, precision):
    monkeypatch.setattr(fit_module.Objective, "forward", _broken(fit_module.Objective.forward))
    with pytest.raises(DivergenceError, match="step 2: loss or gradients are no numbers"):
        run(toy_config(4, precision), tmp_path)


def _broken(forward):
    def broken(self, batch, progress):
        outcome = forward(self, batch, progress)
        broken_loss = outcome.losses.imitation * (1.0 if progress < 0.5 else float("nan"))
        return outcome._replace(losses=outcome.losses._replace(imitation=broken_loss))

    return broken


def test_weights_tell_how_many_steps_they_have_seen(tmp_path):
    run(toy_config(2), tmp_path)
    assert steps_made(tmp_path) == 2
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"model.safetensors: does not say its step"):
        steps_made(tmp_path)


def test_a_folder_without_a_run_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="not a usable checkpoint") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("optimizer: {stepz: 3}", "optimizer.stepz"),
        ("data: {cameras: {share: 2}}", "data.cameras.share"),
        ("model: 3", "model"),
        ("model: {dt_s: 0}", "model.dt_s"),
        ("model: {dt_s: 0.25}", "model.dt_s: .*expected a multiple of 0.1 s, got 0.25"),
        ("model: {history_dt_s: .nan}", "model.history_dt_s"),
        ("model: {history_steps: 1}", "model.history_steps"),
        ("model: {horizon_steps: 0}", "model.horizon_steps"),
        ("data: {image_size: [200000, 16]}", "data.image_size.0"),
        ("data: {yaw_jitter_rad: .nan}", "data.yaw_jitter_rad"),
        ("data: {focal_jitter: 5}", "data.focal_jitter"),
        ("data: {rasters: false, cameras: {share: 0.5}}", "data: .*rasters: false needs .*got 0.5"),
        ("model: {horizon_steps: 6}", "a horizon of 3 s cannot be scored"),
        ("model: {width: 30}", "model: .*width 30 is no multiple of heads 4"),
        ("model: {proposals: 8}", "model: .*braking_mps2 has 8 rates, expected fewer than propo"),
        ("model: {selection: {score: 0}}", "model: .*selection has no weight"),
        ("model: {selection: {beauty: 1}}", "model.selection"),
        ("data: {speed_noise_mps: -1}", "data.speed_noise_mps"),
        ("data: {sources: {ego: {weight: .inf}}}", "data.sources.ego.weight"),
        ("optimizer: {seed: -1}", "optimizer.seed"),
        ("model: {backbone: {frozen: true}}", "model.backbone: .*frozen: true needs weights"),
        ("model: {backbone: {weights: package}}", "model.backbone: .*plain has neither"),
        ("loss: {likeness: 0}", "model.selection.imitation needs loss.likeness"),
        ("loss: {scored_share: 0}", "model.selection.score needs .* without a map to score on"),
        ("loss: {scores: 0}", "model.selection.score needs loss.scores"),
        ("[", "cannot be read"),
    ],
)
def test_bad_configurations_are_named_in_one_line(tmp_path, text, field):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=field) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
