"""A slow reference of the published planner: one sample, numpy, a loop for everything.

Our own code, made from what vita-epfl/RAP computes at commit 5fd8630 and from nothing else, by the
names of its tensors. It drops what its ragged batches drop by skipping, and interpolates by hand,
so that masks, axes and orders of the exportable planner are compared with something that shares no
operation with it.
"""

from __future__ import annotations

import math

import numpy as np


class SlowPlanner:
    """The planner of one checkpoint; `state` has official names without their prefix."""

    def __init__(self, state, *, all_pairs=False):
        self.state = {name: np.asarray(tensor, dtype=np.float64) for name, tensor in state.items()}
        self.all_pairs = all_pairs
        position = "_trajectory_head.0.Bev_refiner.positional_encoding."
        self.proposals = len(self.state[f"{position}row_embed.weight"])
        self.poses = len(self.state[f"{position}col_embed.weight"])
        self.seen_counts = []
        self.points_behind = 0  # of the poses that a camera sees, behind that camera

    def plan(self, features, lidar2img, image_size, ego):
        """Plans.

        Args:
            features: (C, h, w, D), None in place of a missing camera's map.
            lidar2img: C matrices (4, 4), to pixels of the padded image.
            image_size: Width and height of it.
            ego: (11,) pose, velocity, acceleration, command.

        Returns:
            (K, T, 3) proposals and (K,) logits.
        """
        queries = self.state["init_feature.weight"] + self.linear("hist_encoding", ego)
        proposals = None
        passes = len({n.split(".")[1] for n in self.state if n.startswith("_trajectory_head")})
        for number in range(passes):
            head = f"_trajectory_head.{number}"
            proposals = self.mlp(f"{head}.traj_decoder", queries)
            looks = [self.looks(pose, lidar2img, image_size, features) for pose in proposals]
            queries = self.refine(f"{head}.Bev_refiner", queries, proposals, looks, features)
        scores = []
        for proposal in range(self.proposals):
            rows = queries[proposal * self.poses : (proposal + 1) * self.poses]
            scores.append(self.mlp("scorer.pred_score", rows.max(axis=0))[5])
        return proposals.reshape(self.proposals, self.poses, 3), np.array(scores)

    def refine(self, name, queries, poses, looks, features):
        position = self.positions(f"{name}.positional_encoding")
        prefix = f"{name}.bev_decoder.layers."
        layers = {n.removeprefix(prefix).split(".")[0] for n in self.state if n.startswith(prefix)}
        for index in range(len(layers)):
            layer = f"{name}.bev_decoder.layers.{index}"
            queries = queries + self.self_attention(
                f"{layer}.attentions.0", queries, position, poses
            )
            queries = self.norm(f"{layer}.norms.0", queries)
            queries = queries + self.cross_attention(
                f"{layer}.attentions.1", queries, looks, features
            )
            queries = self.norm(f"{layer}.norms.1", queries)
            inner = np.maximum(self.linear(f"{layer}.ffns.0.layers.0.0", queries), 0.0)
            queries = queries + self.linear(f"{layer}.ffns.0.layers.1", inner)
            queries = self.norm(f"{layer}.norms.2", queries)
        return queries

    def positions(self, name):
        rows, columns = (
            self.state[f"{name}.row_embed.weight"],
            self.state[f"{name}.col_embed.weight"],
        )
        return np.array([np.concatenate([columns[t], rows[k]])
                         for k in range(self.proposals) for t in range(self.poses)])  # fmt: skip

    def looks(self, pose, lidar2img, image_size, features):
        """Per camera the 16 normalised image points of a pose; None where it sees none of them."""
        result = []
        for matrix, grid in zip(lidar2img, features, strict=True):
            points, visible, behind = [], False, 0
            for x, y, z in self.box_points(pose):
                u, v, depth, _ = matrix @ [x, y, z, 1.0]
                behind += depth <= 1e-5
                u, v = u / max(depth, 1e-5) / image_size[0], v / max(depth, 1e-5) / image_size[1]
                visible |= depth > 1e-5 and 0.0 < u < 1.0 and 0.0 < v < 1.0
                points.append((u, v))
            seen = visible and grid is not None
            self.points_behind += behind if seen else 0
            result.append(points if seen else None)
        self.seen_counts.append(sum(points is not None for points in result))
        return result

    def box_points(self, pose):
        x, y, yaw = pose
        center = x + 1.461 * math.cos(yaw), y + 1.461 * math.sin(yaw)
        length, width = 2.588 + 0.25, 1.1485 + 0.1
        corners = [
            (center[0] + math.cos(yaw) * a - math.sin(yaw) * b,
             center[1] + math.sin(yaw) * a + math.cos(yaw) * b)
            for a, b in ((length, width), (length, -width), (-length, -width), (-length, width))
        ]  # fmt: skip
        heights = [-2.0 + 8.0 * i / 3.0 for i in range(4)]
        if self.all_pairs:
            return [(*corner, z) for corner in corners for z in heights]
        return [(*corner, z) for _ in range(4) for corner, z in zip(corners, heights, strict=True)]

    def self_attention(self, name, queries, position, poses):
        values = self.linear(f"{name}.value_proj", queries)
        grid = values.reshape(self.proposals, self.poses, -1)
        width = values.shape[1] // 8
        pooled = np.zeros_like(values)
        for q, (query, where, pose) in enumerate(zip(queries, position, poses, strict=True)):
            asking = np.concatenate([query, query + where])
            offsets = self.linear(f"{name}.sampling_offsets", asking).reshape(8, 2, 4, 2)
            logits = self.linear(f"{name}.attention_weights", asking).reshape(8, 2, 4)
            for head in range(8):
                part = slice(head * width, (head + 1) * width)
                for queue in range(2):
                    weights = softmax(logits[head, queue])
                    for point in range(4):
                        dx, dy = offsets[head, queue, point]
                        x = (pose[0] + 32.0) / 64.0 + dx / self.poses
                        y = (pose[1] + 32.0) / 64.0 + dy / self.proposals
                        pooled[q, part] += weights[point] * bilinear(grid[:, :, part], x, y) / 2.0
        return self.linear(f"{name}.output_proj", pooled)

    def cross_attention(self, name, queries, looks, features):
        inner = f"{name}.deformable_attention"
        maps = [None if f is None else self.linear(f"{inner}.value_proj", f) for f in features]
        pooled = np.zeros_like(queries)
        for q, query in enumerate(queries):
            offsets = self.linear(f"{inner}.sampling_offsets", query).reshape(8, 16, 2)
            logits = self.linear(f"{inner}.attention_weights", query).reshape(8, 16)
            seeing = [look for look in zip(looks[q], maps, strict=True) if look[0] is not None]
            for points, grid in seeing:
                pooled[q] += self.camera_view(grid, points, offsets, logits) / len(seeing)
        return self.linear(f"{name}.output_proj", pooled)

    @staticmethod
    def camera_view(grid, points, offsets, logits):
        rows, columns, channels = grid.shape
        width = channels // 8
        view = np.zeros(channels)
        for head in range(8):
            part = slice(head * width, (head + 1) * width)
            weights = softmax(logits[head])
            for point, (u, v) in enumerate(points):
                dx, dy = offsets[head, point]
                x, y = u + dx / columns, v + dy / rows
                view[part] += weights[point] * bilinear(grid[:, :, part], x, y)
        return view

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name, x):
        mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
        scaled = (x - mean) / np.sqrt(variance + 1e-5)
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def mlp(self, name, x):
        for index in (0, 3):
            x = self.linear(f"{name}.mlp.{index}", x)
            x = np.maximum(self.norm(f"{name}.mlp.{index + 1}", x), 0.0)
        return self.linear(f"{name}.mlp.6", x)


def bilinear(grid, x, y):
    """Value of an (h, w, C) map at x, y, with 0 and 1 its outer edges and zeros around it."""
    rows, columns, channels = grid.shape
    column, row = x * columns - 0.5, y * rows - 0.5
    value = np.zeros(channels)
    for j in (math.floor(row), math.floor(row) + 1):
        for i in (math.floor(column), math.floor(column) + 1):
            if 0 <= j < rows and 0 <= i < columns:
                value += (1.0 - abs(row - j)) * (1.0 - abs(column - i)) * grid[j, i]
    return value


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()
