"""What the cameras of a sample see, as rasters and as simulated images, the label drawn in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rap_bringup.birds_eye import CHOSEN, DRIVEN
from rap_evaluation.logged_cameras import LoggedRigs
from rap_raster.camera import CameraModel
from rap_raster.frames import FloatArray
from rap_raster.rasterizer import render, render_batch
from rap_raster.styles import Style
from rap_training.augmentation.situation import Situation
from rap_training.rig import fitted_rig
from rap_training.show.choice import Shown
from rap_training.show.label import Color, Picture, draw_dots, draw_ribbon

DOT_S = 0.5
"""Time between the dots on a label."""


@dataclass(frozen=True, slots=True)
class View:
    """One camera of a sample.

    Attributes:
        camera: The camera.
        raster: (H, W, 3) rgb.
        image: (H, W, 3) rgb that the camera took, or of the camera simulator.
    """

    camera: CameraModel
    raster: Picture
    image: Picture


@dataclass(frozen=True, slots=True)
class Pictured:
    """A sample with its pictures.

    Attributes:
        shown: The sample.
        views: From the leftmost camera to the rightmost; the label is drawn in.
        original: What the front camera would have seen without the change, the recorded drive
            drawn in; None where nothing was changed.
    """

    shown: Shown
    views: tuple[View, ...]
    original: View | None


def pictured(
    shown: Shown, style: Style, size: tuple[int, int], logged: LoggedRigs | None = None
) -> Pictured:
    """Takes all pictures of a sample.

    Args:
        shown: The sample.
        style: Of its rasters.
        size: Width and height of each picture.
        logged: Where images are that cameras took; by default all are simulated.
    """
    situation, seed = shown.situation, shown.image_seed
    if logged is not None and not shown.changed and logged.has_photo(situation.moment):
        return Pictured(shown, _photo_views(situation, logged, style), None)
    rig = sorted(_rig(situation, size, logged), key=_to_the_right)
    front = max(rig, key=lambda camera: float(camera.ego_from_camera[0, 2]))
    views = tuple(_view(situation, camera, style, seed, CHOSEN) for camera in rig)
    original = _view(shown.recorded, front, style, seed, DRIVEN) if shown.changed else None
    return Pictured(shown, views, original)


def path_from_now(situation: Situation) -> FloatArray:
    """Returns the (T + 1, 3) path to drive, the ego's own pose first, ego frame."""
    return np.concatenate([np.zeros((1, 3)), situation.path_m])


def dots_on(situation: Situation) -> FloatArray:
    """Returns the (n, 3) poses of the path `DOT_S` apart, ego frame."""
    steps = round(len(situation.path_m) * situation.moment.log.dt_s / DOT_S)
    return situation.future_m(steps, DOT_S)


def known_history(situation: Situation) -> FloatArray:
    """Returns the (n, 3) recent poses that are known, the last one now, ego frame."""
    history = situation.history
    return history[history[:, 6] > 0, :3].astype(np.float64)


def _rig(
    situation: Situation, size: tuple[int, int], logged: LoggedRigs | None
) -> list[CameraModel]:
    """Returns the cameras that a training sees a sample through."""
    if logged is None:
        return list(fitted_rig(situation.vehicle, size))
    rig = logged.of(situation.moment.log)
    return [c for c, there in zip(rig.rig(situation.vehicle), rig.filled, strict=True) if there]


def _to_the_right(camera: CameraModel) -> float:
    return -float(camera.ego_from_camera[1, 2])


def _photo_views(situation: Situation, logged: LoggedRigs, style: Style) -> tuple[View, ...]:
    """Returns what the cameras of the log saw, as far as there are some."""
    rig = logged.of(situation.moment.log)
    photo = rig.photo(situation.moment)
    rasters = render_batch([photo.geometry(style)], [photo.rig])["rgb"][0]
    views = [
        _labelled(situation, View(*parts), CHOSEN)
        for parts, there in zip(
            zip(photo.rig, rasters, photo.images, strict=True), rig.filled, strict=True
        )
        if there
    ]
    return tuple(sorted(views, key=lambda view: _to_the_right(view.camera)))


def _view(situation: Situation, camera: CameraModel, style: Style, seed: int, color: Color) -> View:
    raster = render(situation.geometry(style), camera)["rgb"].copy()
    view = View(camera, raster, situation.camera_image(camera, seed).copy())
    return _labelled(situation, view, color)


def _labelled(situation: Situation, view: View, color: Color) -> View:
    """Draws the label into both pictures of a view."""
    for picture in (view.raster, view.image):
        draw_ribbon(picture, view.camera, path_from_now(situation), color[::-1])
        draw_dots(picture, view.camera, dots_on(situation), color[::-1])
    return view
