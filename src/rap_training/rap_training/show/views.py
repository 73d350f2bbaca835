"""What the cameras of a situation see, as rasters and as simulated images, the label drawn in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray
from rap_raster.rasterizer import render
from rap_raster.styles import Style
from rap_training.augmentation.situation import Situation
from rap_training.rig import fitted_rig
from rap_training.show.label import Color, Picture, draw_dots, draw_ribbon

DOT_S = 0.5
"""Time between the dots on a label."""


@dataclass(frozen=True, slots=True)
class View:
    """One camera of a situation.

    Attributes:
        camera: The camera.
        raster: (H, W, 3) rgb.
        image: (H, W, 3) rgb of the camera simulator.
    """

    camera: CameraModel
    raster: Picture
    image: Picture


def rig_of(situation: Situation, size: tuple[int, int]) -> list[CameraModel]:
    """Returns the cameras of a situation's vehicle, from the leftmost to the rightmost."""
    rig = [camera.resized(*size) for camera in fitted_rig(situation.vehicle)]
    return sorted(rig, key=lambda camera: -float(camera.ego_from_camera[1, 2]))


def view_of(
    situation: Situation, camera: CameraModel, style: Style, seed: int, color: Color
) -> View:
    """Takes both pictures with a camera; the path to drive is drawn in, rgb `color`."""
    raster = render(situation.geometry(style), camera)["rgb"].copy()
    image = situation.camera_image(camera, seed).copy()
    for picture in (raster, image):
        draw_ribbon(picture, camera, path_from_now(situation), color)
        draw_dots(picture, camera, dots_on(situation), color)
    return View(camera, raster, image)


def path_from_now(situation: Situation) -> FloatArray:
    """Returns the (T + 1, 3) path to drive, the ego's own pose first, ego frame."""
    return np.concatenate([np.zeros((1, 3)), situation.path_m])


def dots_on(situation: Situation) -> FloatArray:
    """Returns the (n, 3) poses of the path `DOT_S` apart, ego frame."""
    steps = round(len(situation.path_m) * situation.moment.log.dt_s / DOT_S)
    return situation.future_m(steps, DOT_S)
