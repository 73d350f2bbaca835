"""The planner head: proposals as queries that look at the features where they would drive.

One query for every pose of every proposal (RAP section 4.2: 64 x 10).
Each proposal is a sequence of accelerations and curvatures that is integrated, along the route
where one is known and by a rear-axle bicycle elsewhere: whatever the network says is a smooth,
forward path. Saying nothing is to go on at the same speed, along the route or straight ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from rap_training.config import ModelConfig
from rap_training.model.attention import Attention, sample_cameras, viewing_rays
from rap_training.model.precision import in_single_precision
from rap_training.model.route_following import (
    HARD_BRAKING_MPS2,
    STEERING_LEAD_S,
    driven,
    follow,
    read_route,
    within_bends,
)
from rap_training.model.route_offsets import OFFSET_CHANNELS, route_offsets
from rap_training.model.scores import SCORE_NAMES

TOKEN_CELLS = 2
"""Feature cells along each side of a token: proposals look closely where they go, and at the rest
of the scene roughly."""

HISTORY_SCALE = (10.0, 2.0, 0.5, 10.0, 1.0, 0.5, 1.0)
"""Typical sizes of the history columns, so that the first layer sees numbers around one."""

ACCELERATION_SCALE_MPS2 = 3.0
TURN_SCALE_RADPM = 0.1
"""Network outputs around one mean hard braking and a 10 m curve."""

CREEP_M, CREEP_MPS = 2.0, 1.0
"""A slow vehicle that is to stop within these metres stops. Plans are made anew twice a second, so
that one who always has half a metre left rolls into whoever stands before him."""

ROUTE_SCALE_M = 20.0
"""Typical distance of route points."""

PROBE_OFFSETS_M = (
    (3.8, 1.2, 0.0), (3.8, -1.2, 0.0), (0.0, 0.0, 0.0), (6.0, 0.0, 0.5), (18.0, 0.0, 5.5)
)  # fmt: skip
"""Where a pose looks: its front corners, which leave the road first, the road below it, what is
right before it, and where the light hangs if the pose is the last one before a stop line: straight
ahead, beyond the junction."""


def rolled_speeds(accelerations: Tensor, speed: Tensor, dt_s: float) -> Tensor:
    """Returns (B, K, T + 1) speeds, the present one first; never backwards.

    Args:
        accelerations: (B, K, T), constant within a step; what brakes on at a standstill delays the
            start.
        speed: (B,) forward speed now, m/s.
        dt_s: Step.
    """
    now = speed[:, None, None].expand_as(accelerations[..., :1])
    speeds = torch.cat([now, now + torch.cumsum(accelerations, dim=-1) * dt_s], dim=-1)
    return speeds.clamp(min=0.0)


def with_braking(
    accelerations: Tensor, pushes: Tensor, braking_mps2: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Lets the last of (B, K, T) accelerations and curvatures brake at given rates, straight on."""
    learned = accelerations.shape[1] - len(braking_mps2)
    rates = accelerations.new_tensor(braking_mps2)[None, :, None]
    braking = (-rates).expand(len(accelerations), -1, accelerations.shape[-1])
    straight = torch.zeros_like(braking)
    return (
        torch.cat([accelerations[:, :learned], braking], dim=1),
        torch.cat([pushes[:, :learned], straight], dim=1),
    )


def without_creeping(speeds: Tensor, dt_s: float) -> Tensor:
    """Makes stops of (B, K, T + 1) speeds, the present one first, that only creep."""
    now = speeds[..., :1]
    steps = torch.arange(speeds.shape[-1], dtype=speeds.dtype, device=speeds.device)
    stop = (now - HARD_BRAKING_MPS2 * dt_s * steps).clamp(min=0.0)
    creeps = (driven(speeds, dt_s).sum(dim=-1, keepdim=True) < CREEP_M) & (now < CREEP_MPS)
    return torch.where(creeps, stop, speeds)


def integrate(lengths: Tensor, curvatures: Tensor) -> Tensor:
    """Rolls a bicycle out from the ego frame's origin.

    Args:
        lengths: (B, K, T) metres driven in each step.
        curvatures: (B, K, T) 1/m, constant within a step.

    Returns:
        (B, K, T, 3) x, y, yaw after each step.
    """
    turns = lengths * curvatures
    yaw = torch.cumsum(turns, dim=-1)
    middle = yaw - 0.5 * turns
    x = torch.cumsum(lengths * torch.cos(middle), dim=-1)
    y = torch.cumsum(lengths * torch.sin(middle), dim=-1)
    return torch.stack([x, y, yaw], dim=-1)


def _ego_channels(config: ModelConfig) -> int:
    return config.history_steps * len(HISTORY_SCALE) + 4 + 3 * config.route_points


def _seen_channels(config: ModelConfig) -> int:
    offsets = OFFSET_CHANNELS if config.route_points else 0
    return config.query_width + len(PROBE_OFFSETS_M) * config.probe_channels + 3 + offsets


def _mlp(in_width: int, width: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_width, width), nn.ReLU(), nn.Linear(width, out_width))


class Refiner(nn.Module):
    """One refinement pass; the same weights serve every pass.

    Residuals are normalised before each block, not after it: with the norms behind, neither the
    scores nor the refinements learned anything at the learning rates that the encoder wants.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Builds the pass."""
        super().__init__()
        width, steps, own = config.width, config.horizon_steps, config.query_width
        self.query_norm = nn.LayerNorm(own)
        self.probe = _mlp(_seen_channels(config), own, own)
        self.time_norm = nn.LayerNorm(own)
        self.time_mix = _mlp(steps * own, width, width)
        self.scene_norm = nn.LayerNorm(width)
        self.scene_attention = Attention(width, config.heads)
        self.proposal_norm = nn.LayerNorm(width)
        self.proposal_attention = Attention(width, config.heads)
        self.out_norm = nn.LayerNorm(width)
        self.out = _mlp(width, width, steps * own)

    def forward(
        self, queries: Tensor, around: Tensor, tokens: Tensor, token_mask: Tensor
    ) -> Tensor:
        """Updates the queries.

        Args:
            queries: (B, K, T, Q).
            around: (B, K, T, ...) what is where the proposals go.
            tokens: (B, M, D) all feature cells.
            token_mask: (B, M).

        Returns:
            (B, K, T, Q).
        """
        seen = torch.cat([self.query_norm(queries), around], dim=-1)
        queries = queries + self.probe(seen)
        whole = self.time_mix(self.time_norm(queries).flatten(2))
        whole = whole + self.scene_attention(self.scene_norm(whole), tokens, token_mask)
        normed = self.proposal_norm(whole)
        whole = whole + self.proposal_attention(normed, normed)
        refined: Tensor = queries + self.out(self.out_norm(whole)).reshape(queries.shape)
        return refined


def scaled(poses: Tensor) -> Tensor:
    """Brings (..., 3) poses to numbers around one for the network to read."""
    return poses * poses.new_tensor([0.05, 0.1, 1.0])


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """What the head says.

    Attributes:
        proposals: One (B, K, T, 3) per pass, ego frame; the last one is the answer.
        scores: (B, K, S) logits, order `scores.SCORE_NAMES`.
        embeddings: (B, K, E) of the proposals, for auxiliary predictions.
    """

    proposals: list[Tensor]
    scores: Tensor
    embeddings: Tensor


class PlannerHead(nn.Module):
    """Aligned features, ego history, command and route to scored proposals."""

    history_scale: Tensor
    probe_offsets: Tensor

    def __init__(self, config: ModelConfig, stride: int) -> None:
        """Builds the head for features with `stride` input pixels per cell."""
        super().__init__()
        width, own, steps = config.width, config.query_width, config.horizon_steps
        self.config, self.stride = config, stride
        self.ego = _mlp(_ego_channels(config), 4 * width, steps * own)
        self.tokens = nn.Linear(config.feature_channels, width)
        self.ray = nn.Linear(3, width)
        self.probe_maps = nn.Conv2d(width, config.probe_channels, 1)
        self.proposal = nn.Parameter(torch.randn(config.proposals, 1, own))
        self.step = nn.Parameter(torch.randn(1, steps, own))
        # Proposals start as different ways to drive, constant over time: winners differ at once.
        self.anchors = nn.Parameter(torch.randn(config.proposals, 1, 2).repeat(1, steps, 1) * 0.1)
        controls = nn.Linear(own, 2)
        nn.init.normal_(controls.weight, std=0.02)
        nn.init.zeros_(controls.bias)
        self.controls = nn.Sequential(nn.Linear(own, own), nn.ReLU(), controls)
        self.refiner = Refiner(config)
        self.decode_norm = nn.LayerNorm(own)
        self.look = nn.Linear(_seen_channels(config), own)
        self.embedding = nn.Linear(steps * own, 2 * width)
        self.scorer = _mlp(2 * width, width, len(SCORE_NAMES))
        self.register_buffer("history_scale", torch.tensor(HISTORY_SCALE))
        self.register_buffer("probe_offsets", torch.tensor(PROBE_OFFSETS_M))

    def forward(  # noqa: PLR0917 - the inputs of the exported network
        self, features: Tensor, camera_valid: Tensor, image_from_ego: Tensor, history: Tensor,
        command: Tensor, route: Tensor,
    ) -> HeadOutput:  # fmt: skip
        """Plans.

        Args:
            features: (B, C, F, h, w).
            camera_valid: (B, C), 1 where a camera has features.
            image_from_ego: (B, C, 3, 4) pixels of the encoder's input image.
            history: (B, S, 7) `HISTORY_COLUMNS`, last row now.
            command: (B, 4) one-hot.
            route: (B, R, 3) x, y, valid of the route ahead, ego frame; R may be 0.
        """
        maps, tokens, token_mask = self._scene(features, camera_valid, image_from_ego)
        queries = self.proposal + self.step + self._ego(history, command, route)[:, None]
        decode = partial(self._decode, history[:, -1], route)
        proposals = [decode(queries)]
        look = partial(self._around, maps, camera_valid, image_from_ego, route)
        for _ in range(self.config.refinements):
            queries = self.refiner(queries, look(proposals[-1].detach()), tokens, token_mask)
            proposals.append(decode(queries))
        # Scores see what is where the proposals go, or they would have to guess it from queries.
        seen = torch.cat([self.decode_norm(queries), look(proposals[-1].detach())], dim=-1)
        embeddings = torch.relu(self.embedding(torch.relu(self.look(seen)).flatten(2)))
        return HeadOutput(proposals, self.scorer(embeddings), embeddings)

    def _ego(self, history: Tensor, command: Tensor, route: Tensor) -> Tensor:
        """Returns the (B, T, Q) embedding of the ego's state and aims."""
        parts = [(history / self.history_scale).flatten(1), command]
        if self.config.route_points:
            valid = route[..., 2:]
            parts.append(torch.cat([route[..., :2] * valid / ROUTE_SCALE_M, valid], -1).flatten(1))
        embedding: Tensor = self.ego(torch.cat(parts, dim=1))
        return embedding.reshape(-1, self.config.horizon_steps, self.config.query_width)

    def _scene(
        self, features: Tensor, camera_valid: Tensor, image_from_ego: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns (B, C, G, h, w) maps to probe, (B, M, D) tokens and their (B, M) mask."""
        rows, columns = features.shape[-2:]
        rays = viewing_rays(image_from_ego, rows, columns, self.stride)
        cells = self.tokens(features.permute(0, 1, 3, 4, 2)) + self.ray(rays)
        flat = cells.flatten(0, 1).permute(0, 3, 1, 2)
        maps = self.probe_maps(flat).reshape(*features.shape[:2], -1, rows, columns)
        pooled = functional.avg_pool2d(flat, TOKEN_CELLS).flatten(2).transpose(1, 2)
        tokens = pooled.reshape(len(features), -1, pooled.shape[-1])
        mask = camera_valid[:, :, None].expand(-1, -1, pooled.shape[1]).flatten(1)
        return maps, tokens, mask

    def _decode(self, now: Tensor, route: Tensor, queries: Tensor) -> Tensor:
        """Returns the (B, K, T, 3) proposals of (B, K, T, Q) queries; `now` ends the history."""
        return self._driven(now, route, self.anchors + self.controls(self.decode_norm(queries)))

    @in_single_precision
    def _driven(self, now: Tensor, route: Tensor, controls: Tensor) -> Tensor:
        """Returns the proposals of (B, K, T, 2) controls."""
        config, speed, yaw_rate = self.config, now[:, 3], now[:, 5]
        accelerations = ACCELERATION_SCALE_MPS2 * controls[..., 0]
        curvatures = TURN_SCALE_RADPM * controls[..., 1]
        accelerations, curvatures = with_braking(accelerations, curvatures, config.braking_mps2)
        speeds, lead_s = rolled_speeds(accelerations, speed, config.dt_s), 0.0
        if not self.training:
            speeds, lead_s = without_creeping(speeds, config.dt_s), STEERING_LEAD_S
        alone = integrate(driven(speeds, config.dt_s), curvatures)
        if not config.route_points:
            return alone
        ahead = read_route(route, config.route_spacing_m)
        speeds = within_bends(speeds, config.dt_s, ahead)
        along_route = follow(ahead, yaw_rate, speeds, config.dt_s, curvatures, lead_s)
        return torch.where(ahead.valid[..., None, None] > 0.0, along_route, alone)

    def _around(
        self, maps: Tensor, camera_valid: Tensor, image_from_ego: Tensor, route: Tensor,
        poses: Tensor,
    ) -> Tensor:  # fmt: skip
        """Returns (B, K, T, P * G + ...): features around poses, the poses, and their offsets."""
        batch, count, steps, _ = poses.shape
        cos, sin = torch.cos(poses[..., 2:]), torch.sin(poses[..., 2:])
        dx, dy, dz = self.probe_offsets.unbind(-1)
        x = poses[..., :1] + cos * dx - sin * dy
        y = poses[..., 1:2] + sin * dx + cos * dy
        points = torch.stack([x, y, dz.expand_as(x)], dim=-1).reshape(batch, -1, 3)
        sampled = sample_cameras(maps, camera_valid, image_from_ego, points, self.stride)
        seen = [sampled.reshape(batch, count, steps, -1), scaled(poses)]
        if self.config.route_points:
            seen.append(route_offsets(poses, route))
        return torch.cat(seen, dim=-1)
