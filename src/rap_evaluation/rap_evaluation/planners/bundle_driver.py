"""A bundle offline: images of its nominal rig in, scored proposals out, by the vehicle's code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rap_inference.bundle import Bundle
from rap_inference.network import OnnxRuntimeNetwork
from rap_planner.candidates import Candidates
from rap_planner.planner import Planner
from rap_planner.route import Guidance
from rap_raster.ego_history import EgoState
from rap_raster.encoder import FeatureEncoder, nominal_rig
from rap_raster.features import AlignedFeatures, FeatureSource
from rap_raster.geometry import Geometry
from rap_raster.rasterizer import render_batch
from rap_raster.styles import load_style


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
        images: npt.NDArray[np.uint8],
        source: FeatureSource,
        ego: EgoState,
        history: npt.NDArray[np.float32],
        guidance: Guidance,
    ) -> Candidates:
        """Plans once.

        Args:
            images: (C, H, W, 3) rgb of the rig's cameras.
            source: What the images are.
            ego: State at their stamp.
            history: (S, 7) as `EgoHistory.network_input` returns it.
            guidance: Where to go.

        Raises:
            PlannerError: If the network's output is not finite or has a wrong shape.
        """
        count = len(self.rig)
        features = AlignedFeatures(
            stamp_ns=ego.stamp_ns,
            sources=np.full(count, source, dtype=np.uint8),
            maps=self._encoder.encode(images),
            intrinsics=np.array([[c.fx, c.fy, c.cx, c.cy] for c in self.rig]),
            ego_from_camera=np.stack([c.ego_from_camera for c in self.rig]),
            alignment_distance=np.full(count, np.nan, dtype=np.float32),
        )
        return self._planner.plan(features, ego, history, guidance)
