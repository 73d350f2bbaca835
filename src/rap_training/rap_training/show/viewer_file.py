"""`samples.rrd`: samples for the Rerun viewer, one at each place of the timeline `sample`.

Everything is in the ego frame: the ego always stands at the origin and looks along x.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rap_bringup.birds_eye import CHOSEN, DRIVEN
from rap_bringup.viewer_shapes import (
    LIFT_M,
    Rerun,
    agent_boxes,
    load_viewer,
    map_lines,
    rgb,
    vehicle_box,
)
from rap_raster.frames import FloatArray, Pose, transform_from_yaw
from rap_raster.maps.vector_map import VectorMap
from rap_training.augmentation.mixture import name_of
from rap_training.show.above import CHANGED, GONE, HISTORY
from rap_training.show.changes import changes_of
from rap_training.show.views import Pictured, View, known_history, path_from_now
from rap_training.show.words import change_in_words, place_in_words

TIMELINE = "sample"
REACH_M = 120.0
"""Of the map: rasters show no more."""

LABEL_RADIUS_M = 0.15
FRUSTUM_M = 1.5
"""How far from a camera its picture hangs."""

_HERE = Pose(0.0, 0.0, 0.0, 0.0)


def write_viewer_file(samples: Sequence[Pictured], path: Path) -> None:
    """Writes samples as a Rerun file.

    Raises:
        ViewerError: If the viewer's package is not installed.
    """
    rerun = load_viewer(path.name)
    recording = rerun.RecordingStream("rap_samples", recording_id=path.stem)
    recording.save(str(path), default_blueprint=_blueprint(rerun, samples))
    for number, sample in enumerate(samples):
        recording.set_time(TIMELINE, sequence=number)
        # What a sample does not have must not stay on from the one before.
        recording.log("/", rerun.Clear(recursive=True))
        recording.log("/", rerun.ViewCoordinates.RIGHT_HAND_Z_UP)
        for entity, content in _entities(rerun, sample).items():
            recording.log(entity, content)
    recording.disconnect()


def _blueprint(rerun: Rerun, samples: Sequence[Pictured]) -> Rerun:
    views = rerun.blueprint
    names = dict.fromkeys(view.camera.name for sample in samples for view in sample.views)
    pictures = [
        views.Spatial2DView(origin=f"/ego/{kind}/{name}/lens", name=f"{kind} {name}")
        for kind in ("raster", "camera")
        for name in names
    ]
    world = views.Spatial3DView(
        origin="/", contents=["+ /**", "- /ego/raster/**", "- /original/**"], name="scene"
    )
    words = views.TextDocumentView(origin="/words", name="sample")
    originals = [
        views.Spatial2DView(origin=f"/original/{kind}", name=f"as recorded, {kind}")
        for kind in ("raster", "camera")
    ]
    left = views.Vertical(words, world, row_shares=[1, 5])
    right = views.Vertical(
        views.Grid(*pictures, grid_columns=len(names)), views.Horizontal(*originals)
    )
    return views.Blueprint(views.Horizontal(left, right))


def _entities(rerun: Rerun, sample: Pictured) -> dict[str, Rerun]:
    """Returns the entities of a sample and what each of them is."""
    situation = sample.shown.situation
    entities = {"/words": rerun.TextDocument(_words(sample))}
    entities |= {f"/around/{name}": what for name, what in _around(rerun, sample).items()}
    entities["/ego/box"] = vehicle_box(rerun, situation.vehicle, _HERE, np.zeros(3))
    entities["/ego/label"] = _path(rerun, path_from_now(situation), CHOSEN)
    entities["/ego/history"] = _path(rerun, known_history(situation), HISTORY)
    if sample.shown.changed:
        entities["/ego/recorded"] = _path(rerun, sample.shown.recorded_path(), DRIVEN)
    for view in sample.views:
        entities |= _cameras(rerun, view)
    if sample.original is not None:
        entities["/original/raster"] = rerun.Image(sample.original.raster)
        entities["/original/camera"] = rerun.Image(sample.original.image)
    return entities


def _words(sample: Pictured) -> str:
    situation = sample.shown.situation
    what = f"{name_of(situation.kind)}: {change_in_words(situation)}"
    return f"{what}\n\n{place_in_words(situation)}"


def _around(rerun: Rerun, sample: Pictured) -> dict[str, Rerun]:
    """Returns map and agents, turned into the ego frame by their common parent."""
    situation, changes = sample.shown.situation, changes_of(sample.shown)
    scene, pose = situation.scene(), situation.ego.pose
    origin_m = np.array([pose.x_m, pose.y_m, pose.z_m])
    around = VectorMap("", scene.polylines, scene.polygons)
    lines = map_lines(rerun, around, origin_m, REACH_M)
    turned = transform_from_yaw(-pose.yaw_rad, (0.0, 0.0, 0.0))
    return {
        "": rerun.Transform3D(mat3x3=turned[:3, :3]),
        **{f"map/{name}": strips for name, strips in lines.items()},
        "agents": agent_boxes(rerun, situation.boxes, origin_m),
        "changed": agent_boxes(rerun, changes.after, origin_m, CHANGED),
        "gone": agent_boxes(rerun, changes.before, origin_m, GONE),
    }


def _path(rerun: Rerun, path_m: FloatArray, color: tuple[int, ...]) -> Rerun:
    strip = np.column_stack([path_m[:, :2], np.full(len(path_m), LIFT_M)])
    return rerun.LineStrips3D([strip], colors=[rgb(color)], radii=[LABEL_RADIUS_M])


def _cameras(rerun: Rerun, view: View) -> dict[str, Rerun]:
    """Returns a camera's place and lens, and its two pictures."""
    camera, entities = view.camera, {}
    place = rerun.Transform3D(
        translation=camera.ego_from_camera[:3, 3], mat3x3=camera.ego_from_camera[:3, :3]
    )
    lens = rerun.Pinhole(
        image_from_camera=camera.intrinsics,
        resolution=[camera.width, camera.height],
        image_plane_distance=FRUSTUM_M,
    )
    for kind, picture in (("raster", view.raster), ("camera", view.image)):
        entity = f"/ego/{kind}/{camera.name}"
        entities[entity] = place
        entities[f"{entity}/lens"] = lens
        entities[f"{entity}/lens/picture"] = rerun.Image(picture)
    return entities
