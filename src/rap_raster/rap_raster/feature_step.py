"""One step of the raster node: images and rasters of one instant in, aligned features out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rap_raster.camera import CameraModel
from rap_raster.features import AlignedFeatures, FeatureEncoder, FeatureSource, relative_distance
from rap_raster.frames import FloatArray, Pose
from rap_raster.maps.vector_map import VectorMap, shapes_near
from rap_raster.observations import CameraFrame
from rap_raster.rasterizer import build_geometry, render
from rap_raster.scene import Boxes, Lights, Scene, Shapes
from rap_raster.styles import Style

MAP_RADIUS_M = 150.0
"""Nothing beyond 120 m is drawn; the rest lets the crop be reused while the ego moves."""

MAP_REUSE_M = 25.0
"""The ego may move this far before the map is cropped anew (120 m + 25 m < MAP_RADIUS_M)."""


@dataclass(frozen=True, slots=True)
class FeaturePolicy:
    """Where features may come from.

    Attributes:
        use_images: False makes every slot a raster, even where there is an image.
        fill_missing: Slots without an image become rasters when the objects are known.
        measure_alignment: Also rasterize slots that have an image, and compare the features.
    """

    use_images: bool
    fill_missing: bool
    measure_alignment: bool


@dataclass(frozen=True, slots=True)
class StepResult:
    """Features of one step, and the rasters that were drawn for it.

    Attributes:
        features: For the planner.
        rasters: Slot index to (H, W, 3) uint8 rgb.
    """

    features: AlignedFeatures
    rasters: dict[int, npt.NDArray[np.uint8]]


class MapCrop:
    """The part of a map that can be drawn around the ego, cropped anew only when needed."""

    def __init__(self, vector_map: VectorMap) -> None:
        """Keeps the whole map; `around` returns the part near a pose."""
        self._whole = vector_map
        self._center: FloatArray | None = None
        self._near = vector_map

    def around(self, pose: Pose) -> VectorMap:
        """Returns the shapes within `MAP_RADIUS_M` of a place near `pose`."""
        center = np.array([pose.x_m, pose.y_m])
        if self._center is None or np.linalg.norm(center - self._center) > MAP_REUSE_M:
            self._center = center
            self._near = VectorMap(
                name=self._whole.name,
                polylines=shapes_near(self._whole.polylines, center, MAP_RADIUS_M),
                polygons=shapes_near(self._whole.polygons, center, MAP_RADIUS_M),
            )
        return self._near


NO_MAP = VectorMap("no map", Shapes.from_list([]), Shapes.from_list([]))
"""What is drawn before a map has come."""


def make_scene(pose: Pose, boxes: Boxes, lights: Lights, near_map: VectorMap) -> Scene:
    """Assembles what is drawn."""
    return Scene(pose, boxes, near_map.polylines, near_map.polygons, lights)


class FeatureStep:
    """Computes aligned features with the bundle's encoder and raster style."""

    def __init__(
        self,
        encoder: FeatureEncoder,
        feature_shape: tuple[int, int, int],
        style: Style,
        policy: FeaturePolicy,
    ) -> None:
        """Wires the parts; it keeps no state between steps.

        Args:
            encoder: The bundle's encoder.
            feature_shape: Channels, height and width of its output, for slots that stay empty.
            style: The raster style the bundle was trained with.
            policy: Where features may come from.
        """
        self._encoder = encoder
        self._feature_shape = feature_shape
        self._style = style
        self._policy = policy

    def needs_scene(self, frame: CameraFrame) -> bool:
        """True if some slot of this frame becomes a raster when the scene is known."""
        policy = self._policy
        gaps = policy.fill_missing and not bool(frame.valid.all())
        return gaps or policy.measure_alignment or not policy.use_images

    def from_frame(
        self, frame: CameraFrame, scene: Scene | None, *, draw_all: bool = False
    ) -> StepResult:
        """Computes features for a camera frame.

        Args:
            frame: Images with their calibration.
            scene: The same instant as objects and map; None where objects or ego are unknown.
            draw_all: Also draw rasters that no feature needs (for debug views).
        """
        policy = self._policy
        sources = np.where(frame.valid & policy.use_images, FeatureSource.CAMERA, 0)
        fill = (sources == 0) & (policy.fill_missing or not policy.use_images)
        if scene is not None:
            sources[fill] = FeatureSource.RASTER
        wanted = sources == FeatureSource.RASTER
        if draw_all or policy.measure_alignment:
            wanted = np.ones_like(wanted)
        cameras = frame.cameras()
        rasters = draw_rasters(scene, self._style, cameras, wanted) if scene is not None else {}
        return self._encoded(frame, sources.astype(np.uint8), rasters)

    def from_rasters(self, stamp_ns: int, rig: list[CameraModel], scene: Scene) -> StepResult:
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
        rasters = draw_rasters(scene, self._style, rig, np.ones(len(rig), bool))
        return self._encoded(frame, sources, rasters)

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


def draw_rasters(
    scene: Scene,
    style: Style,
    cameras: list[CameraModel],
    wanted: npt.NDArray[np.bool_],
) -> dict[int, npt.NDArray[np.uint8]]:
    """Draws the wanted slots.

    Args:
        scene: What to draw.
        style: How it looks.
        cameras: C camera models.
        wanted: (C,) which of them to draw.

    Returns:
        Slot index to (H, W, 3) uint8 rgb.
    """
    if not wanted.any():
        return {}
    geometry = build_geometry(scene, style)
    return {int(slot): render(geometry, cameras[slot])["rgb"] for slot in np.flatnonzero(wanted)}
