"""Training samples, drawn on the fly: nothing is cached, and an index always gives the same bytes.

Sample i depends on the seed and on i alone, so the number of workers does not matter and a resumed
training sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from rap_evaluation.moments import Moment, is_standing
from rap_planner.route import Command
from rap_raster.camera import CameraModel, optical_rotation
from rap_raster.frames import FloatArray
from rap_raster.rasterizer import render_batch
from rap_raster.styles import load_style
from rap_training.config import TrainingConfig
from rap_training.rig import NOMINAL_RIG

MAX_STANDING_DRAWS = 20
"""Standing samples are redrawn at most this often, so that a log of standing cars still works."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sample; C cameras, S history rows, T poses.

    Attributes:
        rasters: (C, H, W, 3) uint8.
        images: (C, H, W, 3) uint8 simulated camera images; zero where `has_images` is 0.
        has_images: 1 if there are camera images.
        image_from_ego: (C, 3, 4) float32.
        history: (S, 7) float32.
        command: (4,) float32, one-hot.
        target: (T, 3) float32 driven poses, ego frame.
    """

    rasters: npt.NDArray[np.uint8]
    images: npt.NDArray[np.uint8]
    has_images: np.float32
    image_from_ego: npt.NDArray[np.float32]
    history: npt.NDArray[np.float32]
    command: npt.NDArray[np.float32]
    target: npt.NDArray[np.float32]


class DriveDataset(Dataset[dict[str, torch.Tensor]]):
    """An endless dataset of a stated length over the moments of some logs."""

    def __init__(self, moments: Sequence[Moment], config: TrainingConfig, length: int) -> None:
        """Draws `length` samples from `moments`."""
        if not moments:
            raise ValueError("no moment with a full future in the logs")
        self._moments = moments
        self._config = config
        self._style = load_style(config.data.style)
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        sample = self.sample(index)
        return {
            name: torch.from_numpy(np.asarray(getattr(sample, name)))
            for name in Sample.__dataclass_fields__
        }

    def sample(self, index: int) -> Sample:
        """Returns sample `index`, the same one each time."""
        rng = np.random.default_rng([self._config.optimizer.seed, index])
        moment = self._draw(rng)
        model = self._config.model
        rig = [jittered(camera, self._config, rng) for camera in NOMINAL_RIG]
        rasters = render_batch([moment.geometry(self._style)], [rig])["rgb"][0]
        has_images = rng.random() < self._config.data.camera_share
        images = np.zeros_like(rasters)
        if has_images:
            seed = int(rng.integers(2**31))
            images = np.stack([moment.camera_image(camera, seed) for camera in rig])
        return Sample(
            rasters=rasters,
            images=images,
            has_images=np.float32(has_images),
            image_from_ego=np.stack([c.image_from_ego() for c in rig]).astype(np.float32),
            history=self._history(moment, rng),
            command=self._command(moment, rng),
            target=moment.future(model.horizon_steps, model.dt_s).astype(np.float32),
        )

    def _draw(self, rng: np.random.Generator) -> Moment:
        horizon_s = self._config.model.horizon_steps * self._config.model.dt_s
        for _ in range(MAX_STANDING_DRAWS):
            moment = self._moments[int(rng.integers(len(self._moments)))]
            kept = rng.random() < self._config.data.standing_share
            if kept or not is_standing(moment, horizon_s):
                break
        return moment

    def _history(self, moment: Moment, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        model, data = self._config.model, self._config.data
        history = moment.history(model.history_steps, model.history_dt_s)
        if rng.random() < data.short_history_share:
            history[: int(rng.integers(1, model.history_steps))] = 0.0
        noise = rng.normal(scale=data.speed_noise_mps, size=(1, 2)).astype(np.float32)
        history[:, 3:5] += noise * history[:, 6:] * np.minimum(1.0, np.abs(history[:, 3:4]))
        return history

    def _command(self, moment: Moment, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        one_hot = np.zeros(len(Command), dtype=np.float32)
        hidden = rng.random() < self._config.data.unknown_command_share
        one_hot[Command.UNKNOWN if hidden else moment.command()] = 1.0
        return one_hot


def jittered(camera: CameraModel, config: TrainingConfig, rng: np.random.Generator) -> CameraModel:
    """Returns a camera mounted a little differently, so that the model must read calibrations."""
    data = config.data
    focal = 1.0 + data.focal_jitter * rng.normal()
    pose: FloatArray = camera.ego_from_camera.copy()
    level = optical_rotation(0.0)
    yaw_rad, pitch_rad = data.yaw_jitter_rad * rng.normal(size=2)
    pose[:3, :3] = pose[:3, :3] @ level.T @ optical_rotation(yaw_rad, pitch_rad)
    pose[:3, 3] += data.position_jitter_m * rng.normal(size=3)
    return replace(camera, fx=camera.fx * focal, fy=camera.fy * focal, ego_from_camera=pose)
