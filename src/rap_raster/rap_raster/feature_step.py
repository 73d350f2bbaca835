"""One step of the raster node: images and rasters of one instant in, aligned features out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_raster.camera import CameraModel
from rap_raster.encoder import FeatureEncoder
from rap_raster.features import AlignedFeatures, FeatureSource, relative_distance
from rap_raster.geometry import Geometry
from rap_raster.observations import CameraFrame
from rap_raster.rasterizer import render, render_batch
from rap_raster.view_coverage import covered_share


@dataclass(frozen=True, slots=True)
class FeaturePolicy:
    """Where features may come from.

    Attributes:
        use_images: False makes every slot a raster, even where there is an image.
        fill_missing: Slots without an image become rasters when the objects are known.
        measure_alignment: Also rasterize slots that have an image, and compare the features.
        objects_independent: Objects do not come from the cameras, so they are known where no
            camera looks.
    """

    use_images: bool
    fill_missing: bool
    measure_alignment: bool
    objects_independent: bool


COVERED_SHARE = 0.95
"""Share of a camera's view that others must see, for objects there to be as good as all known."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """Features of one step, and the rasters that were drawn for it.

    Attributes:
        features: For the planner.
        rasters: Slot index to (H, W, 3) uint8 rgb.
    """

    features: AlignedFeatures
    rasters: dict[int, npt.NDArray[np.uint8]]


class FeatureStep:
    """Computes aligned features with the bundle's encoder and raster style."""

    def __init__(
        self,
        encoder: FeatureEncoder,
        feature_shape: tuple[int, int, int],
        policy: FeaturePolicy,
    ) -> None:
        """Wires the parts; it keeps no state between steps.

        Args:
            encoder: The bundle's encoder.
            feature_shape: Channels, height and width of its output, for slots that stay empty.
            policy: Where features may come from.
        """
        self._encoder = encoder
        self._feature_shape = feature_shape
        self._policy = policy

    def needs_scene(self, frame: CameraFrame) -> bool:
        """True if some slot of this frame becomes a raster when the scene is known."""
        policy = self._policy
        gaps = policy.fill_missing and bool((~frame.valid & self.objects_known(frame)).any())
        return gaps or policy.measure_alignment or not policy.use_images

    def objects_known(self, frame: CameraFrame) -> npt.NDArray[np.bool_]:
        """Returns (C,) where the objects in view are known, so that a raster would show them.

        Objects may come from the very camera that has no image. Then nothing is known about its
        view but what other cameras see, and an empty raster would claim an empty road.
        """
        if self._policy.objects_independent:
            return np.ones(len(frame.valid), bool)
        cameras = frame.cameras()
        live = [camera for camera, valid in zip(cameras, frame.valid, strict=True) if valid]
        return np.array(
            [
                bool(valid) or covered_share(camera, live) >= COVERED_SHARE
                for camera, valid in zip(cameras, frame.valid, strict=True)
            ]
        )

    def from_frame(
        self, frame: CameraFrame, geometry: Geometry | None, *, draw_all: bool = False
    ) -> StepResult:
        """Computes features for a camera frame.

        Args:
            frame: Images with their calibration.
            geometry: The same instant as objects and map, in the style the bundle was trained
                with; None where objects or ego are unknown.
            draw_all: Also draw rasters that no feature needs (for debug views).
        """
        policy = self._policy
        sources = np.where(frame.valid & policy.use_images, FeatureSource.CAMERA, 0)
        fill = (sources == 0) & self.objects_known(frame)
        fill &= policy.fill_missing or not policy.use_images
        if geometry is not None:
            sources[fill] = FeatureSource.RASTER
        wanted = sources == FeatureSource.RASTER
        if draw_all or policy.measure_alignment:
            wanted = np.ones_like(wanted)
        if geometry is None:
            rasters = {}
        else:
            cameras = frame.cameras()
            rasters = {
                int(slot): render(geometry, cameras[slot])["rgb"] for slot in np.flatnonzero(wanted)
            }
        return self._encoded(frame, sources.astype(np.uint8), rasters)

    def from_rasters(self, stamp_ns: int, rig: list[CameraModel], geometry: Geometry) -> StepResult:
        """Computes features from rasters alone, for a given rig."""
        first = rig[0]
        frame = CameraFrame(
            stamp_ns=stamp_ns,
            names=tuple(camera.name for camera in rig),
            valid=np.zeros(len(rig), bool),
            age_s=np.full(len(rig), np.nan, np.float32),
            images=np.zeros((len(rig), first.height, first.width, 3), np.uint8),
            intrinsics=np.array([(c.fx, c.fy, c.cx, c.cy) for c in rig]),
            ego_from_camera=np.stack([c.ego_from_camera for c in rig]),
        )
        sources = np.full(len(rig), FeatureSource.RASTER, np.uint8)
        images = render_batch([geometry], [rig])["rgb"][0]
        return self._encoded(frame, sources, dict(enumerate(images)))

    def _encoded(
        self,
        frame: CameraFrame,
        sources: npt.NDArray[np.uint8],
        rasters: dict[int, npt.NDArray[np.uint8]],
    ) -> StepResult:
        """Encodes each used image and raster in one batch and sorts the results into slots."""
        compared = [
            slot
            for slot in rasters
            if self._policy.measure_alignment and sources[slot] == FeatureSource.CAMERA
        ]
        used = np.flatnonzero(sources)
        batch = [
            frame.images[slot] if sources[slot] == FeatureSource.CAMERA else rasters[int(slot)]
            for slot in used
        ]
        batch += [rasters[slot] for slot in compared]
        maps = np.zeros((len(sources), *self._feature_shape), np.float32)
        distance = np.full(len(sources), np.nan, np.float32)
        if batch:
            encoded = self._encoder.encode(np.stack(batch))
            maps[used] = encoded[: len(used)]
            distance[compared] = relative_distance(maps[compared], encoded[len(used) :])
        features = AlignedFeatures(
            stamp_ns=frame.stamp_ns,
            sources=sources,
            maps=maps,
            intrinsics=frame.intrinsics,
            ego_from_camera=frame.ego_from_camera,
            alignment_distance=distance,
        )
        return StepResult(features, rasters)


def overlaid(image: npt.NDArray[np.uint8], raster: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns (H, W, 3) rgb: half of each where something is drawn, elsewhere the image."""
    is_drawn = raster.any(axis=-1, keepdims=True)
    return np.where(is_drawn, image // 2 + raster // 2, image)
