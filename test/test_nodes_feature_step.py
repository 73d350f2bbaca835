"""Where features come from: image, raster, or neither."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bundles import CHANNELS, COLUMNS, HEIGHT, ROWS, VIEW_YAWS_RAD, WIDTH

from rap_inference.bundle import load_bundle
from rap_inference.network import OnnxRuntimeNetwork
from rap_raster.encoder import FeatureEncoder, nominal_rig
from rap_raster.feature_step import FeaturePolicy, FeatureStep, overlaid
from rap_raster.features import FeatureSource
from rap_raster.frames import Pose
from rap_raster.geometry import build_geometry
from rap_raster.observations import CameraFrame
from rap_raster.scene import Boxes, Lights, Scene, Shapes
from rap_raster.step_pacer import StepPacer
from rap_raster.styles import load_style

MISSING, CAMERA, RASTER = FeatureSource.MISSING, FeatureSource.CAMERA, FeatureSource.RASTER
ORIGIN = Pose(0.0, 0.0, 0.0, 0.0)
CAMERA_POLICY = FeaturePolicy(
    use_images=True, fill_missing=True, measure_alignment=False, objects_independent=True
)
SECOND = 1_000_000_000


def make_step(bundle_path, policy: FeaturePolicy = CAMERA_POLICY) -> FeatureStep:
    bundle = load_bundle(bundle_path)
    encoder = FeatureEncoder(bundle, OnnxRuntimeNetwork(bundle.encoder_path))
    return FeatureStep(encoder, (CHANNELS, ROWS, COLUMNS), policy)


@pytest.fixture
def frame(tiny_bundle) -> CameraFrame:
    rig = nominal_rig(load_bundle(tiny_bundle))
    images = np.full((3, HEIGHT, WIDTH, 3), 200, np.uint8)
    return CameraFrame(
        stamp_ns=5,
        names=tuple(VIEW_YAWS_RAD),
        valid=np.array([True, False, True]),
        age_s=np.zeros(3, np.float32),
        images=images,
        intrinsics=np.array([(c.fx, c.fy, c.cx, c.cy) for c in rig]),
        ego_from_camera=np.stack([c.ego_from_camera for c in rig]),
    )


@pytest.fixture
def scene():
    """A truck close ahead and one to the left."""
    rows = [
        [1, 2, 12.0, 0.0, 1.5, 8.0, 3.0, 3.0, 0.0, 0.0, 0.0],
        [2, 2, 8.0, 10.0, 1.5, 8.0, 3.0, 3.0, 0.0, 0.0, 0.0],
    ]
    nothing = Shapes.from_list([])
    drawn = Scene(ORIGIN, Boxes.from_rows(rows), nothing, nothing, Lights.empty())
    return build_geometry(drawn, load_style("semantic"))


def test_images_are_used_where_they_are_and_rasters_where_they_are_not(tiny_bundle, frame, scene):
    result = make_step(tiny_bundle).from_frame(frame, scene)
    features = result.features
    assert features.stamp_ns == 5
    assert list(features.sources) == [CAMERA, RASTER, CAMERA]
    np.testing.assert_allclose(features.maps[[0, 2]], 200 / 255, atol=1e-5)
    assert features.maps[1].max() > 0  # the truck on the left
    assert set(result.rasters) == {1}
    assert np.isnan(features.alignment_distance).all()


def test_without_a_scene_a_missing_image_stays_missing_whatever_its_pixels_say(tiny_bundle, frame):
    features = make_step(tiny_bundle).from_frame(frame, None).features
    assert list(features.sources) == [CAMERA, MISSING, CAMERA]
    assert (features.maps[1] == 0).all()


def test_no_image_and_no_scene_gives_all_missing_not_an_error(tiny_bundle, frame):
    blind = replace(frame, valid=np.zeros(3, bool))
    features = make_step(tiny_bundle).from_frame(blind, None).features
    assert list(features.sources) == [MISSING] * 3


def test_a_view_that_nobody_sees_is_masked_if_objects_may_come_from_its_camera(
    tiny_bundle, frame, scene
):
    """An empty raster would claim an empty road to the left."""
    step = make_step(tiny_bundle, replace(CAMERA_POLICY, objects_independent=False))
    assert not step.needs_scene(frame)
    features = step.from_frame(frame, scene).features
    assert list(features.sources) == [CAMERA, MISSING, CAMERA]
    assert (features.maps[1] == 0).all()
    poses = frame.ego_from_camera.copy()
    poses[1] = poses[0]  # the camera without image looks where another one looks
    seen = replace(frame, ego_from_camera=poses)
    assert step.needs_scene(seen)
    assert list(step.from_frame(seen, scene).features.sources) == [CAMERA, RASTER, CAMERA]


def test_rasters_alone_ignore_the_images(tiny_bundle, frame, scene):
    policy = replace(CAMERA_POLICY, use_images=False)
    features = make_step(tiny_bundle, policy).from_frame(frame, scene).features
    assert list(features.sources) == [RASTER] * 3
    rig = nominal_rig(load_bundle(tiny_bundle))
    alone = make_step(tiny_bundle).from_rasters(5, rig, scene).features
    np.testing.assert_array_equal(features.maps, alone.maps)


def test_alignment_distance_is_zero_for_the_raster_itself_and_large_for_another_image(
    tiny_bundle, frame, scene
):
    """The raster shown as a camera image must agree with itself; a grey image must not."""
    step = make_step(tiny_bundle, replace(CAMERA_POLICY, measure_alignment=True))
    grey = step.from_frame(frame, scene)
    assert np.isnan(grey.features.alignment_distance[1])
    assert grey.features.alignment_distance[0] > 0.5
    images = frame.images.copy()
    images[0] = grey.rasters[0]
    same = step.from_frame(replace(frame, images=images), scene)
    assert same.features.alignment_distance[0] == pytest.approx(0.0, abs=1e-6)


def test_a_scene_is_asked_for_only_when_something_must_be_drawn(tiny_bundle, frame):
    complete = replace(frame, valid=np.ones(3, bool))
    step = make_step(tiny_bundle)
    assert step.needs_scene(frame)
    assert not step.needs_scene(complete)
    assert make_step(tiny_bundle, replace(CAMERA_POLICY, use_images=False)).needs_scene(complete)


def test_the_pacer_keeps_the_rate_despite_jitter_and_starts_anew_when_time_jumps_back():
    pacer = StepPacer(10.0)
    jitter = np.random.default_rng(0).uniform(-0.01, 0.01, 50)
    due = [pacer.is_due(int((0.1 * k + jitter[k]) * SECOND)) for k in range(50)]
    assert all(due)
    fast = StepPacer(10.0)
    assert sum(fast.is_due(k * SECOND // 50) for k in range(50)) in (10, 13)
    assert fast.is_due(0)


def test_an_overlay_is_the_image_where_nothing_is_drawn_and_half_of_each_elsewhere():
    image = np.array([[[200, 100, 51], [8, 9, 10]]], np.uint8)
    raster = np.array([[[0, 255, 0], [0, 0, 0]]], np.uint8)
    assert overlaid(image, raster).tolist() == [[[100, 177, 25], [8, 9, 10]]]
