"""What the model learns besides driving: scores of its proposals, and what is in its images.

Proposals are the model's own, so their scores cannot be prepared: each is driven by the score's
simulator through the scene of its sample. Two auxiliary predictions learn from the same drive (RAP
section 5): where a proposal leaves the road or its direction, and who comes near it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from rap_evaluation.metrics.pdm_kernels import NON_DRIVABLE, ONCOMING, initial_overlaps
from rap_evaluation.metrics.pdm_scene import DT_S, PdmScene
from rap_evaluation.metrics.teacher import lesson
from rap_raster.frames import FloatArray, to_local
from rap_training.cells import GROUPS
from rap_training.config import LossConfig, ModelConfig
from rap_training.losses import probability_loss
from rap_training.model.scores import TAUGHT

AREA_KINDS = (NON_DRIVABLE, ONCOMING)
"""What the area prediction tells apart. Source: RAP release, off-road and oncoming."""

_AREA_STEPS = np.arange(5, 41, 5)  # Every half second of the driven 4 s.
AREA_SAMPLES = len(_AREA_STEPS)

AGENTS = 2
"""Road users that the agent prediction places, for each proposal. Source: RAP release."""

RARITY = 5.0
"""How much more a cell that has something counts than one that has not."""

AGENT_TIMES_S = (1.0, 2.0, 3.0, 4.0)
_ROOM_SHARES = (0.25, 0.5, 0.75, 1.0)
_NEAR_M = 20.0  # Centres farther apart have nothing to do with each other.
_CORNERS = ((0.5, 0.5), (0.5, -0.5), (-0.5, -0.5), (-0.5, 0.5))
_AGENT_SCALE_M = 20.0


@dataclass(frozen=True, slots=True)
class Lessons:
    """What the proposals of N samples are worth.

    Attributes:
        scores: (N, K, S - 1) order `scores.TAUGHT`.
        areas: (N, K, A, 2) 1 where a proposal is in an area of `AREA_KINDS`, every half second.
        corners: (N, K, 2, times, 4, 2) boxes of the nearest road users in the ego frame, metres.
        near: (N, K, 2, times) 1 where there is such a road user.
    """

    scores: Tensor
    areas: Tensor
    corners: Tensor
    near: Tensor


class Auxiliaries(nn.Module):
    """The predictions that are made in training only."""

    def __init__(self, model: ModelConfig) -> None:
        """Builds all for features and embeddings of `model`."""
        super().__init__()
        channels = 2 * model.width
        self.cells = nn.Conv2d(model.feature_channels, len(GROUPS), 1)
        self.areas = nn.Linear(channels, AREA_SAMPLES * len(AREA_KINDS))
        self.agents = nn.Linear(channels, AGENTS * len(AGENT_TIMES_S) * 9)

    def in_cells(self, features: Tensor, shape: tuple[int, int]) -> Tensor:
        """(N, F, h, w) features to (N, G, rows, columns) logits of what is in cells."""
        return functional.adaptive_avg_pool2d(self.cells(features), shape)

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, K, E) embeddings to area logits, corners and their logits, shaped as `Lessons`."""
        areas = self.areas(embeddings).unflatten(-1, (AREA_SAMPLES, len(AREA_KINDS)))
        agents = self.agents(embeddings).unflatten(-1, (AGENTS, len(AGENT_TIMES_S), 9))
        return areas, _AGENT_SCALE_M * agents[..., :8].unflatten(-1, (4, 2)), agents[..., 8]


class Teacher:
    """Scores proposals in threads: the kernels of the score leave the interpreter to others."""

    def __init__(self, dt_s: float, room_m: tuple[float, float], threads: int = 2) -> None:
        """Prepares.

        Args:
            dt_s: Time between the poses of proposals.
            room_m: See `LossConfig.room_m`.
            threads: How many.
        """
        self._dt_s, self._room_m = dt_s, room_m
        self._threads = ThreadPoolExecutor(threads)

    def lessons(self, scenes: Sequence[PdmScene], proposals: Tensor) -> Lessons:
        """Returns the lessons of N scenes with (N, K, T, 3) proposals."""
        poses = proposals.detach().double().cpu().numpy()
        rows = list(self._threads.map(self._row, scenes, poses))
        scores, areas, corners, near = (
            torch.from_numpy(np.stack(column)).to(proposals.device, torch.float32)
            for column in zip(*rows, strict=True)
        )
        return Lessons(scores, areas, corners, near)

    def _row(
        self, scene: PdmScene, poses_m: FloatArray
    ) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray, npt.NDArray[np.bool_]]:
        taught = lesson(with_room(scene, self._room_m), poses_m, self._dt_s)
        scores = np.stack([taught.scores[name] for name in TAUGHT], axis=-1)
        areas = taught.areas[:, _AREA_STEPS][..., list(AREA_KINDS)]
        return scores, areas, *nearest_agents(scene, poses_m, self._dt_s)


def with_room(scene: PdmScene, room_m: tuple[float, float]) -> PdmScene:
    """Returns a scene whose agents are larger by some room, or as much of it as is free now.

    A plan that just does not touch whoever brakes is made anew half a second later, when it is too
    late; and scores are not seen to the decimetre. PDM-Closed keeps such room too.

    Args:
        scene: The moment.
        room_m: Before and behind, and beside.
    """
    agents = scene.agents
    if not len(agents):
        return scene
    sizes_m = agents.sizes_m
    for share in _ROOM_SHARES:
        larger_m = agents.sizes_m + 2.0 * share * np.array(room_m)
        touch = initial_overlaps(scene.initial_state, agents.states, larger_m)
        sizes_m = np.where(touch[:, None], sizes_m, larger_m)
    return replace(scene, agents=replace(agents, sizes_m=sizes_m))


def nearest_agents(
    scene: PdmScene, poses_m: FloatArray, dt_s: float
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Returns the boxes of the road users that come nearest to each proposal.

    Args:
        scene: The moment.
        poses_m: (K, T, 3) proposals, ego frame.
        dt_s: Time between their poses.

    Returns:
        (K, 2, times, 4, 2) corners in the ego frame, metres, and (K, 2, times) whether there is
        one, at `AGENT_TIMES_S`.
    """
    count, slots, times = len(poses_m), AGENTS, len(AGENT_TIMES_S)
    corners = np.zeros((count, slots, times, 4, 2))
    near = np.zeros((count, slots, times), dtype=bool)
    steps = np.round(np.array(AGENT_TIMES_S) / DT_S).astype(int)
    states = scene.agents.states[:, steps]
    if not len(states):
        return corners, near
    places = to_local(scene.initial_state[:3], states[..., :3])
    own = poses_m[:, np.round(np.array(AGENT_TIMES_S) / dt_s).astype(int) - 1, :2]
    apart_m = np.hypot(*np.moveaxis(places[None, :, :, :2] - own[:, None], -1, 0))
    apart_m = np.nan_to_num(apart_m, nan=np.inf)
    order = np.argsort(apart_m.min(axis=2), axis=1, kind="stable")[:, :slots]
    boxes = _box_corners(places, scene.agents.sizes_m)
    found = order.shape[1]
    corners[:, :found] = np.nan_to_num(boxes[order])
    near[:, :found] = np.take_along_axis(apart_m, order[..., None], axis=1) < _NEAR_M
    return corners, near


def _box_corners(poses: FloatArray, sizes_m: FloatArray) -> FloatArray:
    """(N, t, 3) centres and headings and (N, 2) sizes to (N, t, 4, 2) corners."""
    cos, sin = np.cos(poses[..., 2]), np.sin(poses[..., 2])
    local = np.array(_CORNERS) * sizes_m[:, None]
    x, y = local[:, None, :, 0], local[:, None, :, 1]
    turned = np.stack([cos[..., None] * x - sin[..., None] * y,
                       sin[..., None] * x + cos[..., None] * y], axis=-1)  # fmt: skip
    return np.asarray(poses[..., None, :2] + turned)


def cell_loss(logits: Tensor, cells: Tensor, valid: Tensor) -> Tensor:
    """Returns the loss of what was predicted to be in cells.

    Args:
        logits: (N, G, rows, columns) of images.
        cells: (N, rows, columns) bits of `cells.GROUPS`.
        valid: (N,) 1 where an image counts.
    """
    groups = torch.arange(logits.shape[1], device=cells.device)
    truth = (cells[:, None] >> groups[:, None, None]) & 1
    loss = functional.binary_cross_entropy_with_logits(
        logits, truth.to(logits.dtype), reduction="none", pos_weight=logits.new_tensor(RARITY)
    )
    # Groups are summed, so that what is in few cells counts as much as what is in many.
    return (loss.sum(1).mean((1, 2)) * valid).sum() / valid.sum().clamp(min=1.0)


def auxiliary_loss(
    predicted: tuple[Tensor, Tensor, Tensor], truth: Lessons, config: LossConfig
) -> Tensor:
    """Returns the weighted losses of both auxiliary predictions. Source: RAP section 5."""
    areas, corners, near = predicted
    area = probability_loss(areas, truth.areas)
    there = probability_loss(near, truth.near)
    apart_m = functional.l1_loss(corners, truth.corners, reduction="none").mean(dim=(-1, -2))
    box = (apart_m * truth.near).sum() / truth.near.sum().clamp(min=1.0) / _AGENT_SCALE_M
    return config.area * area + config.agents * (there + box)
