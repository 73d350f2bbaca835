"""The parameter file of a graph that runs on a bag."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rap_bringup.bag_reader import Bag
from rap_bringup.bags import BagError
from rap_bringup.paths import PARAMS_FILE, REPLAY_PARAMS, resource
from rap_bringup.rotations import quaternion_from_rotation
from rap_inference.bundle import Bundle
from rap_perception.rig import assign_slots
from rap_raster.encoder import nominal_rig

PERCEPTION, RASTER, PLANNER, GUARD, MAP = (
    "/**/perception_node",
    "/**/raster_node",
    "/**/planner_node",
    "/**/guard_node",
    "/**/map_node",
)

Params = dict[str, dict[str, Any]]

_NOT_OF_A_BAG = ("mode", "autoware_trajectory", "frames.", "qos_overrides.", "use_sim_time")
"""Parameters of a guard, or begins of them, that have no part in its judgement."""


def load_params(path: Path) -> Params:
    """Reads a ROS parameter file.

    Raises:
        ValueError: If it is not a mapping of node names to `ros__parameters`.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    sections = content if isinstance(content, dict) else {}
    for name, section in sections.items():
        if not isinstance(section, dict) or not isinstance(section.get("ros__parameters"), dict):
            raise ValueError(f"{path}: {name}: expected ros__parameters")
    if not sections:
        raise ValueError(f"{path}: expected node names with ros__parameters")
    return {str(name): dict(section["ros__parameters"]) for name, section in sections.items()}


def sections_of(params: Params, node: str) -> list[dict[str, Any]]:
    """Returns the sections that name a node, whatever namespace their keys give.

    Args:
        params: Of all nodes.
        node: A key such as `MAP`; also found as `map_node`, `/map_node` or `/vehicle/map_node`.
    """
    name = node.rpartition("/")[2]
    return [section for key, section in params.items() if key.rpartition("/")[2] == name]


def overridden(params: Params, overrides: Params) -> Params:
    """Returns parameters of which some are replaced."""
    names = dict.fromkeys([*params, *overrides])
    return {name: params.get(name, {}) | overrides.get(name, {}) for name in names}


def slots_of_bag(bag: Bag, bundle: Bundle) -> dict[str, str]:
    """Decides which camera of a bag feeds which slot of the bundle, by viewing direction.

    Returns:
        Slot name to camera name, the front slot first; empty for a bag without cameras.

    Raises:
        BagError: If the bag has cameras and none looks where a slot looks.
    """
    rig = nominal_rig(bundle)
    poses = {name: camera.model.ego_from_camera for name, camera in bag.cameras.items()}
    assigned = assign_slots(rig, poses, {})
    if bag.cameras and not assigned:
        raise BagError(
            f"{bag.path}: no camera of {sorted(bag.cameras)} looks in the direction of a slot of "
            f"the bundle {[camera.name for camera in rig]}"
        )
    return {camera.name: assigned[camera.name] for camera in rig if camera.name in assigned}


def replay_params(
    bag: Bag, bundle: Bundle, slots: Mapping[str, str], vehicle: Path | None = None
) -> Params:
    """Returns the shipped parameters, adapted to a bag.

    Args:
        bag: The bag to be played.
        bundle: The bundle to run.
        slots: Slot name to camera name.
        vehicle: Parameter file of a vehicle, whose guard is to judge: its sections of guard_node
            take the place of what is shipped, but for what depends on where it runs.

    Raises:
        ValueError: If that file cannot be used, or has no such section.
    """
    params = overridden(load_params(resource(PARAMS_FILE)), load_params(resource(REPLAY_PARAMS)))
    if vehicle is not None:
        sections = sections_of(load_params(vehicle), GUARD)
        if not sections:
            raise ValueError(f"{vehicle}: has no section of guard_node")
        params[GUARD] = {"mode": params[GUARD]["mode"]}
        for section in sections:
            judging = {key: section[key] for key in section if not key.startswith(_NOT_OF_A_BAG)}
            params[GUARD] |= judging
    for name in (PERCEPTION, RASTER, PLANNER):
        params.setdefault(name, {})["bundle.path"] = str(bundle.path.resolve())
    if slots:
        cameras = _camera_params(bag, slots)
        params[PERCEPTION].update(cameras)
        params[RASTER]["cameras.names"] = list(cameras["cameras.names"])  # no YAML alias
    params["/**"] = {"use_sim_time": True}
    return params


def write_params(params: Params, path: Path) -> None:
    """Writes a ROS parameter file."""
    content = {name: {"ros__parameters": section} for name, section in params.items()}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _camera_params(bag: Bag, slots: Mapping[str, str]) -> dict[str, Any]:
    names = list(slots.values())
    used = [bag.cameras[name] for name in names]
    if len({camera.compressed for camera in used}) > 1:
        raise BagError(f"{bag.path}: some cameras are compressed and some are not: {names}")
    result: dict[str, Any] = {
        "cameras.names": names,
        "cameras.slots": list(slots),
        "cameras.compressed": used[0].compressed,
        "sync.anchor": names[0],
    }
    for camera in used:
        pose = camera.model.ego_from_camera
        values = [*pose[:3, 3], *quaternion_from_rotation(pose[:3, :3])]
        result[f"cameras.extrinsics.{camera.name}"] = [float(value) for value in values]
    return result
