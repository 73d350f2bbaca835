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

from rap_evaluation.logged_cameras import LoggedRigs, Photo
from rap_evaluation.metrics.pdm_scene import PdmScene
from rap_planner.route import Command, route_ahead
from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray
from rap_raster.geometry import Geometry
from rap_raster.rasterizer import render_batch
from rap_raster.styles import Style, load_style
from rap_training.augmentation.mixture import Draw, Mixture, MixtureError
from rap_training.augmentation.recorded import EgoSource
from rap_training.augmentation.score_scene import ScoreScenes
from rap_training.augmentation.situation import Situation, SourceKind
from rap_training.cells import cell_bits
from rap_training.config import TrainingConfig
from rap_training.image_store import ImageStore
from rap_training.rig import fitted_rig, nominal_rig


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sample; C cameras, S history rows, T poses, D reasons to drop a draw.

    Attributes:
        rasters: (C, H, W, 3) uint8.
        images: (C, H, W, 3) uint8 camera images; zero where `has_images` is 0. (0, H, W, 3) if the
            configuration wants none at all.
        cells: (C, H / 16, W / 16) int32 what is in each cell of a raster, and of its image; see
            `rap_training.cells`. (C, 0, 0) if the configuration does not ask for them.
        has_images: 1 if there are camera images.
        camera_valid: (C,) float32, 0 for a camera that is to be missed, or that is not there.
        image_from_ego: (C, 3, 4) float32.
        history: (S, 7) float32.
        command: (4,) float32, one-hot.
        route: (R, 3) float32 x, y, valid of the route ahead; see `rap_planner.route.route_ahead`.
        target: (T, 3) float32 poses to drive, ego frame.
        loss_weight: Of the imitation loss.
        source: `SourceKind` code.
        drops: (D,) draws of the source that were dropped before this one, by `situation.DROPS`.
    """

    rasters: npt.NDArray[np.uint8]
    images: npt.NDArray[np.uint8]
    cells: npt.NDArray[np.int32]
    has_images: np.float32
    camera_valid: npt.NDArray[np.float32]
    image_from_ego: npt.NDArray[np.float32]
    history: npt.NDArray[np.float32]
    command: npt.NDArray[np.float32]
    route: npt.NDArray[np.float32]
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
class Batch:
    """Samples as a training takes them.

    Attributes:
        tensors: Fields of `Sample`, stacked.
        scenes: To score proposals in: one for each of the first samples, None where nothing can be
            said. Samples are in random order, so that these are as good as any.
    """

    tensors: dict[str, torch.Tensor]
    scenes: tuple[PdmScene | None, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """All of a sample but its pixels."""

    draw: Draw
    rig: tuple[CameraModel, ...]
    image_seed: int | None
    photo: Photo | None
    camera_valid: npt.NDArray[np.float32]
    history: npt.NDArray[np.float32]
    command: npt.NDArray[np.float32]
    route: npt.NDArray[np.float32]

    @property
    def has_images(self) -> bool:
        return self.image_seed is not None or self.photo is not None

    def geometry(self, style: Style) -> Geometry:
        return (self.photo or self.draw.situation).geometry(style)


class DriveDataset(Dataset[dict[str, torch.Tensor]]):
    """An endless dataset of a stated length over a mixture of sources."""

    def __init__(
        self,
        mixture: Mixture,
        config: TrainingConfig,
        length: int,
        images: ImageStore | None = None,
    ) -> None:
        """Draws `length` samples from a mixture.

        Args:
            mixture: What to draw from.
            config: How samples are made.
            length: How many there are.
            images: Where camera images are kept; without it they are made each time.

        Raises:
            MixtureError: If camera images of recorded drives, or images that the cameras of logs
                took, are wanted and there are none.
        """
        self._mixture = mixture
        self._config = config
        self._style = load_style(config.data.style)
        self._length = length
        self._images = images
        self._rigs = LoggedRigs(nominal_rig(config.data.image_size), config.data.cameras.slots)
        self._photographed = _photographed(mixture, config, self._rigs)
        self._scenes = ScoreScenes(config.model.history_dt_s)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: batch[0] for name, batch in self.batch([index]).items()}

    def batch(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Returns samples stacked by field; rasters stay where they were drawn."""
        return self._stacked(*self._planned(indices))

    def training_batch(self, indices: Sequence[int]) -> Batch:
        """Returns samples with the scenes that the proposals of some of them are scored in."""
        plans, rasters, cells = self._planned(indices)
        share = self._config.loss.scored_share
        # One at least: devices with a sample or two each would never have any scored.
        scored = plans[: max(1, round(share * len(plans)))] if share else []
        scenes = tuple(self._scenes.scene(plan.draw.situation) for plan in scored)
        return Batch(self._stacked(plans, rasters, cells), scenes)

    def drawn(self, indices: Sequence[int]) -> list[Drawn]:
        """Returns samples with what they are pictures of, the same ones each time."""
        return [
            Drawn(self._sample(plan, own, cells), plan.draw.situation, plan.rig)
            for plan, own, cells in zip(*self._planned(indices), strict=True)
        ]

    def _planned(
        self, indices: Sequence[int]
    ) -> tuple[list[_Plan], npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Returns all about samples but their pixels, their rasters and what is in their cells."""
        plans = [self._plan(index) for index in indices]
        geometries = [plan.geometry(self._style) for plan in plans]
        rigs = [plan.rig for plan in plans]
        if not self._config.loss.cells:
            rasters = render_batch(geometries, rigs)["rgb"]
            return plans, rasters, np.zeros((*rasters.shape[:2], 0, 0), dtype=np.int32)
        drawn = render_batch(geometries, rigs, ("rgb", "class"))
        return plans, drawn["rgb"], cell_bits(drawn["class"])

    def _stacked(
        self,
        plans: Sequence[_Plan],
        rasters: npt.NDArray[np.uint8],
        cells: npt.NDArray[np.int32],
    ) -> dict[str, torch.Tensor]:
        samples = [self._sample(*parts) for parts in zip(plans, rasters, cells, strict=True)]
        stacked = {
            name: torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))
            for name in Sample.__dataclass_fields__.keys() - {"rasters"}
        }
        return {"rasters": torch.from_numpy(rasters), **stacked}

    def _plan(self, index: int) -> _Plan:
        rng = np.random.default_rng([self._config.optimizer.seed, index])
        cameras = self._config.data.cameras
        photographed = rng.random() < cameras.share
        if photographed and cameras.images == "logged":
            own, draw, image_seed = rng, self._photographed.draw(rng), None
        elif photographed:
            number = int(rng.integers(cameras.samples))
            own = np.random.default_rng([cameras.seed, number])
            draw, image_seed = self._photographed.draw(own), int(own.integers(2**31))
        else:
            own, draw, image_seed = rng, self._mixture.draw(rng), None
        rig, filled, photo = self._seen(draw.situation, own, photographed=photographed)
        return _Plan(
            draw=draw,
            rig=rig,
            image_seed=image_seed,
            photo=photo,
            camera_valid=self._camera_valid(filled, rng),
            history=self._history(draw.situation, rng),
            command=self._command(draw.situation, rng),
            route=self._route(draw.situation, rng),
        )

    def _seen(
        self, situation: Situation, rng: np.random.Generator, *, photographed: bool
    ) -> tuple[tuple[CameraModel, ...], npt.NDArray[np.bool_], Photo | None]:
        """Returns the cameras of a sample, which of them there are, and what they took."""
        data = self._config.data
        if data.cameras.images == "simulated":
            rig = jittered(fitted_rig(situation.vehicle, data.image_size), self._config, rng)
            return rig, np.ones(len(rig), dtype=np.bool_), None
        logged = self._rigs.of(situation.moment.log)
        if photographed:
            photo = logged.photo(situation.moment)
            return photo.rig, photo.taken, photo
        return jittered(logged.rig(situation.vehicle), self._config, rng), logged.filled, None

    def _sample(
        self, plan: _Plan, rasters: npt.NDArray[np.uint8], cells: npt.NDArray[np.int32]
    ) -> Sample:
        situation, model = plan.draw.situation, self._config.model
        images = np.zeros_like(rasters) if self._config.data.cameras.share else rasters[:0]
        if plan.photo is not None:
            images = plan.photo.images
        elif plan.image_seed is not None:
            for camera, image in zip(plan.rig, images, strict=True):
                image[:] = self._image(situation, camera, plan.image_seed)
        return Sample(
            rasters=rasters,
            images=images,
            cells=cells,
            has_images=np.float32(plan.has_images),
            camera_valid=plan.camera_valid,
            image_from_ego=np.stack([c.image_from_ego() for c in plan.rig]).astype(np.float32),
            history=plan.history,
            command=plan.command,
            route=plan.route,
            target=situation.future_m(model.horizon_steps, model.dt_s).astype(np.float32),
            loss_weight=np.float32(plan.draw.loss_weight),
            source=np.int64(situation.kind),
            drops=plan.draw.drops,
        )

    def _image(self, situation: Situation, camera: CameraModel, seed: int) -> npt.NDArray[np.uint8]:
        if self._images is None:
            return situation.camera_image(camera, seed)
        return self._images.image(situation, camera, seed)

    def _camera_valid(
        self, filled: npt.NDArray[np.bool_], rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        valid, there = filled.astype(np.float32), np.flatnonzero(filled)
        if rng.random() < self._config.data.hidden_camera_share and len(there) > 1:
            valid[there[int(rng.integers(len(there)))]] = 0.0
        return valid

    def _history(self, situation: Situation, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        model, data = self._config.model, self._config.data
        history = situation.history.copy()
        if rng.random() < data.hidden_history_share:
            history[:-1] = 0.0
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

    def _route(self, situation: Situation, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        model, hidden = self._config.model, rng.random() < self._config.data.hidden_route_share
        route_m = None if hidden or not model.route_points else situation.route_m
        return route_ahead(route_m, situation.ego.pose, model.route_points, model.route_spacing_m)


def _photographed(mixture: Mixture, config: TrainingConfig, rigs: LoggedRigs) -> Mixture:
    """Returns what samples with camera images are drawn from."""
    cameras = config.data.cameras
    if cameras.views == "any" or not cameras.share:
        return mixture
    recorded = [source for source in mixture.sources if source.kind is SourceKind.EGO]
    if not recorded:
        raise MixtureError("data.cameras.views: recorded, but the source ego has no weight")
    if cameras.images == "logged":
        recorded = [s.only(rigs.has_photo) for s in recorded if isinstance(s, EgoSource)]
        if not any(map(len, recorded)):
            raise MixtureError(
                "data.cameras.images: logged, but no log has a camera in a slot of the rig with "
                "images near its steps; see `rap-train sources`"
            )
    return Mixture([(source, 1.0) for source in recorded])


def load_batches(
    dataset: DriveDataset,
    batch_size: int,
    *,
    workers: int,
    first: int = 0,
    share: tuple[int, int] = (0, 1),
) -> DataLoader[Batch]:
    """Returns a loader of whole batches; the last one may have fewer samples.

    Batches are made whole by the workers, so that nothing is copied to stack them.

    Args:
        dataset: The samples, in order: sources are random already.
        batch_size: Samples in a batch, all devices together.
        workers: Loader processes; 0 for this one.
        first: Batches that are left out, because an earlier run has seen them.
        share: Number of this device, and of how many: it gets every so-many-th sample.
    """
    batches = _Batches(dataset, batch_size, share)
    remaining = Subset(batches, range(first, len(batches)))
    return DataLoader(remaining, batch_size=None, num_workers=workers)


class _Batches(Dataset[Batch]):
    """A dataset whose items are the batches of another."""

    def __init__(self, dataset: DriveDataset, size: int, share: tuple[int, int]) -> None:
        self._dataset, self._size = dataset, size
        self._rank, self._devices = share

    def __len__(self) -> int:
        return math.ceil(len(self._dataset) / self._size)

    def __getitem__(self, number: int) -> Batch:
        first = number * self._size
        last = min(first + self._size, len(self._dataset))
        return self._dataset.training_batch(range(first + self._rank, last, self._devices))


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
