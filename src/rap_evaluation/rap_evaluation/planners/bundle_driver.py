"""A bundle offline: images of its nominal rig in, scored proposals out, by the vehicle's code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_inference.bundle import Bundle
from rap_inference.network import OnnxRuntimeNetwork
from rap_planner.candidates import Candidates
from rap_planner.planner import Planner
from rap_planner.route import Guidance
from rap_raster.camera import CameraModel
from rap_raster.ego_history import EgoState
from rap_raster.encoder import FeatureEncoder, nominal_rig
from rap_raster.features import AlignedFeatures, FeatureSource
from rap_raster.geometry import Geometry
from rap_raster.rasterizer import render_batch
from rap_raster.styles import load_style


@dataclass(frozen=True, slots=True)
class Seen:
    """What a bundle looks at; C slots of its rig.

    Attributes:
        images: (C, H, W, 3) rgb.
        sources: (C,) `FeatureSource` codes; images of MISSING slots are not looked at.
        rig: The camera of each image.
    """

    images: npt.NDArray[np.uint8]
    sources: npt.NDArray[np.uint8]
    rig: Sequence[CameraModel]

    @classmethod
    def all_of(
        cls, images: npt.NDArray[np.uint8], source: FeatureSource, rig: Sequence[CameraModel]
    ) -> Seen:
        """Returns images of one kind from every camera of a rig."""
        return cls(images, np.full(len(rig), source, dtype=np.uint8), rig)


class BundleDriver:
    """Runs both networks of a bundle.

    Attributes:
        manifest: Of the bundle.
        style: Raster style of the bundle.
        rig: Its nominal cameras.
    """

    def __init__(self, bundle: Bundle, *, patience_s: float) -> None:
        """Loads both networks of the bundle.

        Args:
            bundle: The model.
            patience_s: See `rap_planner.patience`; `math.inf` where frames are no drive.
        """
        self.manifest = bundle.manifest
        self.style = load_style(bundle.manifest.style)
        self.rig = nominal_rig(bundle)
        self._encoder = FeatureEncoder(bundle, OnnxRuntimeNetwork(bundle.encoder_path))
        self._planner = Planner(
            bundle, OnnxRuntimeNetwork(bundle.planner_path), patience_s=patience_s
        )

    def rasters(self, geometry: Geometry) -> npt.NDArray[np.uint8]:
        """Draws (C, H, W, 3) rgb rasters of a scene in the rig."""
        images: npt.NDArray[np.uint8] = render_batch([geometry], [self.rig])["rgb"][0]
        return images

    def candidates(
        self,
        seen: Seen,
        ego: EgoState,
        history: npt.NDArray[np.float32],
        guidance: Guidance,
    ) -> Candidates:
        """Plans once.

        Args:
            seen: By the cameras in the slots of the rig.
            ego: State at their stamp.
            history: (S, 7) as `EgoHistory.network_input` returns it.
            guidance: Where to go.

        Raises:
            PlannerError: If the network's output is not finite or has a wrong shape.
        """
        shape, there = self.manifest.features, seen.sources != FeatureSource.MISSING
        maps = np.zeros((len(there), shape.channels, shape.height, shape.width), dtype=np.float32)
        if there.any():
            maps[there] = self._encoder.encode(seen.images[there])
        features = AlignedFeatures(
            stamp_ns=ego.stamp_ns,
            sources=seen.sources,
            maps=maps,
            intrinsics=np.array([[c.fx, c.fy, c.cx, c.cy] for c in seen.rig]),
            ego_from_camera=np.stack([c.ego_from_camera for c in seen.rig]),
            alignment_distance=np.full(len(there), np.nan, dtype=np.float32),
        )
        return self._planner.plan(features, ego, history, guidance)
