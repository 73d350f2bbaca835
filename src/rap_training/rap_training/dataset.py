"""Training samples, drawn on the fly: nothing is cached, and an index always gives the same bytes.

Sample i depends on the seed and on i alone, so the number of workers does not matter and a resumed
training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from rap_planner.route import Command
from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray
from rap_raster.rasterizer import render_batch
from rap_raster.styles import load_style
from rap_training.augmentation.mixture import Draw, Mixture
from rap_training.augmentation.situation import Situation
from rap_training.config import TrainingConfig
from rap_training.rig import fitted_rig


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sample; C cameras, S history rows, T poses, D reasons to drop a draw.

    Attributes:
        rasters: (C, H, W, 3) uint8.
        images: (C, H, W, 3) uint8 simulated camera images; zero where `has_images` is 0. (0, H, W,
            3) if the configuration wants none at all.
        has_images: 1 if there are camera images.
        image_from_ego: (C, 3, 4) float32.
        history: (S, 7) float32.
        command: (4,) float32, one-hot.
        target: (T, 3) float32 poses to drive, ego frame.
        loss_weight: Of the imitation loss.
        source: `SourceKind` code.
        drops: (D,) draws of the source that were dropped before this one, by `situation.DROPS`.
    """

    rasters: npt.NDArray[np.uint8]
    images: npt.NDArray[np.uint8]
    has_images: np.float32
    image_from_ego: npt.NDArray[np.float32]
    history: npt.NDArray[np.float32]
    command: npt.NDArray[np.float32]
    target: npt.NDArray[np.float32]
    loss_weight: np.float32
    source: np.int64
    drops: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample and what it is a picture of.

    Attributes:
        sample: What a training sees.
        situation: What it is drawn of.
        rig: The cameras it is drawn through.
    """

    sample: Sample
    situation: Situation
    rig: tuple[CameraModel, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """All of a sample but its pixels."""

    draw: Draw
    rig: tuple[CameraModel, ...]
    image_seed: int | None
    history: npt.NDArray[np.float32]
    command: npt.NDArray[np.float32]


class DriveDataset(Dataset[dict[str, torch.Tensor]]):
    """An endless dataset of a stated length over a mixture of sources."""

    def __init__(self, mixture: Mixture, config: TrainingConfig, length: int) -> None:
        """Draws `length` samples from a mixture."""
        self._mixture = mixture
        self._config = config
        self._style = load_style(config.data.style)
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: batch[0] for name, batch in self.batch([index]).items()}

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Returns samples stacked by field; rasters stay where they were drawn."""
        plans, rasters = self._planned(indices)
        samples = [self._sample(plan, own) for plan, own in zip(plans, rasters, strict=True)]
        stacked = {
            name: torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))
            for name in Sample.__dataclass_fields__.keys() - {"rasters"}
        }
        return {"rasters": torch.from_numpy(rasters), **stacked}

    def drawn(self, indices: Sequence[int]) -> list[Drawn]:
        """Returns samples with what they are pictures of, the same ones each time."""
        plans, rasters = self._planned(indices)
        return [
            Drawn(self._sample(plan, own), plan.draw.situation, plan.rig)
            for plan, own in zip(plans, rasters, strict=True)
        ]

    def _planned(self, indices: Sequence[int]) -> tuple[list[_Plan], npt.NDArray[np.uint8]]:
        """Returns all about samples but their pixels, and their (S, C, H, W, 3) rasters."""
        plans = [self._plan(index) for index in indices]
        geometries = [plan.draw.situation.geometry(self._style) for plan in plans]
        return plans, render_batch(geometries, [plan.rig for plan in plans])["rgb"]

    def _plan(self, index: int) -> _Plan:
        rng = np.random.default_rng([self._config.optimizer.seed, index])
        draw = self._mixture.draw(rng)
        data = self._config.data
        cameras = fitted_rig(draw.situation.vehicle, data.image_size)
        return _Plan(
            draw=draw,
            rig=jittered(cameras, self._config, rng),
            image_seed=int(rng.integers(2**31)) if rng.random() < data.camera_share else None,
            history=self._history(draw.situation, rng),
            command=self._command(draw.situation, rng),
        )

    def _sample(self, plan: _Plan, rasters: npt.NDArray[np.uint8]) -> Sample:
        situation, model = plan.draw.situation, self._config.model
        images = np.zeros_like(rasters) if self._config.data.camera_share else rasters[:0]
        if plan.image_seed is not None:
            for camera, image in zip(plan.rig, images, strict=True):
                image[:] = situation.camera_image(camera, plan.image_seed)
        return Sample(
            rasters=rasters,
            images=images,
            has_images=np.float32(plan.image_seed is not None),
            image_from_ego=np.stack([c.image_from_ego() for c in plan.rig]).astype(np.float32),
            history=plan.history,
            command=plan.command,
            target=situation.future_m(model.horizon_steps, model.dt_s).astype(np.float32),
            loss_weight=np.float32(plan.draw.loss_weight),
            source=np.int64(situation.kind),
            drops=plan.draw.drops,
        )

    def _history(self, situation: Situation, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        model, data = self._config.model, self._config.data
        history = situation.history.copy()
        if rng.random() < data.short_history_share:
            history[: int(rng.integers(1, model.history_steps))] = 0.0
        noise = rng.normal(scale=data.speed_noise_mps, size=(1, 2)).astype(np.float32)
        history[:, 3:5] += noise * history[:, 6:] * np.minimum(1.0, np.abs(history[:, 3:4]))
        return history

    def _command(self, situation: Situation, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        one_hot = np.zeros(len(Command), dtype=np.float32)
        hidden = rng.random() < self._config.data.unknown_command_share
        one_hot[Command.UNKNOWN if hidden else situation.command] = 1.0
        return one_hot


def load_batches(
    dataset: DriveDataset, batch_size: int, *, workers: int, first: int = 0
) -> DataLoader[dict[str, torch.Tensor]]:
    """Returns a loader of whole batches; the last one may have fewer samples.

    Batches are made whole by the workers, so that nothing is copied to stack them.

    Args:
        dataset: The samples, in order: sources are random already.
        batch_size: Samples in a batch.
        workers: Loader processes; 0 for this one.
        first: Batches that are left out, because an earlier run has seen them.
    """
    batches = _Batches(dataset, batch_size)
    remaining = Subset(batches, range(first, len(batches)))
    return DataLoader(remaining, batch_size=None, num_workers=workers)


class _Batches(Dataset[dict[str, torch.Tensor]]):
    """A dataset whose items are the batches of another."""

    def __init__(self, dataset: DriveDataset, size: int) -> None:
        self._dataset, self._size = dataset, size

    def __len__(self) -> int:
        return math.ceil(len(self._dataset) / self._size)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        first = number * self._size
        return self._dataset.batch(range(first, min(first + self._size, len(self._dataset))))


def jittered(
    rig: Sequence[CameraModel], config: TrainingConfig, rng: np.random.Generator
) -> tuple[CameraModel, ...]:
    """Returns cameras mounted a little differently, so that the model must read calibrations."""
    data = config.data
    draws = rng.normal(size=(len(rig), 6))
    turns = _turns(data.yaw_jitter_rad * draws[:, :2])
    shifts_m, scales = data.position_jitter_m * draws[:, 2:5], 1.0 + data.focal_jitter * draws[:, 5]
    cameras = []
    for camera, turn, shift_m, scale in zip(rig, turns, shifts_m, scales.tolist(), strict=True):
        pose: FloatArray = camera.ego_from_camera.copy()
        pose[:3, :3] = pose[:3, :3] @ turn
        pose[:3, 3] += shift_m
        cameras.append(
            replace(camera, fx=camera.fx * scale, fy=camera.fy * scale, ego_from_camera=pose)
        )
    return tuple(cameras)


def _turns(angles_rad: FloatArray) -> FloatArray:
    """Returns (C, 3, 3) rotations of cameras by (C, 2) to the left and down, camera frame."""
    (cos_y, cos_p), (sin_y, sin_p) = np.cos(angles_rad).T, np.sin(angles_rad).T
    turns = np.zeros((len(angles_rad), 3, 3))
    turns[:, 0, 0], turns[:, 0, 1], turns[:, 0, 2] = cos_y, sin_y * sin_p, -sin_y * cos_p
    turns[:, 1, 1], turns[:, 1, 2] = cos_p, sin_p
    turns[:, 2, 0], turns[:, 2, 1], turns[:, 2, 2] = sin_y, -cos_y * sin_p, cos_y * cos_p
    return turns
