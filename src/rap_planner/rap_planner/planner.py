"""The planner: aligned features, ego history and command in, scored candidates out."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from rap_inference.bundle import Bundle
from rap_inference.network import Network
from rap_planner.candidates import Candidates, manoeuvre_entropy
from rap_planner.patience import Patience
from rap_planner.route import Command, Guidance, route_ahead
from rap_raster.ego_history import EgoState
from rap_raster.features import AlignedFeatures, FeatureSource
from rap_raster.frames import FloatArray, inverse, to_parent

PATIENCE_S = 10.0
"""How long to stand before candidates that stay lose score."""


class PlannerError(ValueError):
    """Planner output that cannot be used; the text says what was wrong with it."""


class Planner:
    """Runs the planner network of a bundle, on one drive after the other."""

    def __init__(self, bundle: Bundle, network: Network, *, patience_s: float = PATIENCE_S) -> None:
        """Wraps the planner network of a bundle.

        Args:
            bundle: Has its manifest.
            network: Runs it.
            patience_s: See `rap_planner.patience`.
        """
        self._network = network
        self._manifest = bundle.manifest
        self._patience = Patience(patience_s)

    def plan(
        self,
        features: AlignedFeatures,
        ego: EgoState,
        history: npt.NDArray[np.float32],
        guidance: Guidance,
    ) -> Candidates:
        """Plans once.

        Args:
            features: Features of the bundle's C camera slots.
            ego: Ego state at the features' stamp.
            history: (S, 7) `EgoHistory.network_input` at the same stamp.
            guidance: Where to go.

        Returns:
            Candidates in the map frame.

        Raises:
            PlannerError: If the network's output is not finite or has a wrong shape.
        """
        inputs = planner_inputs(features, history, guidance.command)
        if (shape := self._manifest.route) is not None:
            route = route_ahead(guidance.route_m, ego.pose, shape.points, shape.spacing_m)
            inputs["route"] = route[None]
        start = time.perf_counter()
        outputs = self._network.run(inputs)
        inference_ms = 1e3 * (time.perf_counter() - start)
        proposals, scores = self._checked(outputs["proposals"], outputs["scores"])
        scores = scores - self._patience.losses(ego, proposals[..., :2], self._manifest.dt_s)
        return Candidates(
            stamp_ns=features.stamp_ns,
            ego=ego,
            dt_s=self._manifest.dt_s,
            poses_m=to_parent(ego.planar, proposals),
            scores=scores,
            uncertainty=manoeuvre_entropy(proposals[:, -1, :2], scores),
            command=guidance.command,
            command_source=guidance.source,
            inference_ms=inference_ms,
            camera_sources=features.sources,
            alignment_distance=_largest(features.alignment_distance),
        )

    def _checked(
        self, proposals: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        manifest = self._manifest
        expected = (1, manifest.proposals, manifest.horizon_steps, 3)
        if proposals.shape != expected or scores.shape != expected[:2]:
            raise PlannerError(
                f"planner: proposals {proposals.shape} and scores {scores.shape}, "
                f"expected {expected} and {expected[:2]}"
            )
        if not (np.isfinite(proposals).all() and np.isfinite(scores).all()):
            raise PlannerError("planner: proposals or scores are not finite")
        return proposals[0], scores[0]


def _largest(distances: npt.NDArray[np.float32]) -> float:
    """Returns the largest distance that was measured, NaN if none was."""
    measured = distances[np.isfinite(distances)]
    return float(measured.max()) if len(measured) else float("nan")


def image_from_ego(intrinsics: FloatArray, ego_from_camera: FloatArray) -> npt.NDArray[np.float32]:
    """Stacks the pinhole projections of C cameras.

    Args:
        intrinsics: (C, 4) fx, fy, cx, cy in pixels.
        ego_from_camera: (C, 4, 4) optical frame to ego frame.

    Returns:
        (C, 3, 4) float32: ego metres to (u w, v w, w) pixels.
    """
    result = np.empty((len(intrinsics), 3, 4), dtype=np.float32)
    for row, (fx, fy, cx, cy), pose in zip(result, intrinsics, ego_from_camera, strict=True):
        matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
        row[:] = matrix @ inverse(pose)[:3]
    return result


def planner_inputs(
    features: AlignedFeatures, history: npt.NDArray[np.float32], command: Command
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the named inputs of the planner network but for the route, batch of one."""
    one_hot = np.zeros((1, len(Command)), dtype=np.float32)
    one_hot[0, command] = 1.0
    return {
        "features": features.maps[None],
        "camera_valid": (features.sources != FeatureSource.MISSING).astype(np.float32)[None],
        "image_from_ego": image_from_ego(features.intrinsics, features.ego_from_camera)[None],
        "history": history[None],
        "command": one_hot,
    }
