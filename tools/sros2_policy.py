"""Writes config/sros2/policy.xml: what each node of the graph may publish, subscribe and serve.

Starts every node, in every mode that has topics of its own, and reads from ROS what it uses. Types
of messages that need not be installed are stood in for, so that the policy is the same everywhere.
With `--check` nothing is written, and a policy that is out of date is an error.

Source of the form: sros2, `sros2/policy/schemas/policy.xsd`, version 0.2.0.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import rclpy
from nav_msgs.msg import Path as PathMsg
from rclpy.parameter import Parameter

from rap_bringup.processes import free_domain
from rap_perception.ros.perception_node import PerceptionNode
from rap_planner.ros.guard_node import GuardNode
from rap_planner.ros.guard_parameters import TOPICS
from rap_planner.ros.planner_node import PlannerNode
from rap_raster.ros.map_node import MapNode
from rap_raster.ros.node import RapNode
from rap_raster.ros.raster_node import RasterNode

ROOT = Path(__file__).resolve().parent.parent
POLICY = ROOT / "config" / "sros2" / "policy.xml"

ENCLAVES = {
    "perception_node": "/rap/drive",
    "raster_node": "/rap/drive",
    "planner_node": "/rap/drive",
    "guard_node": "/rap/guard",
    "map_node": "/rap/map",
}
"""One per process, because keys belong to a DDS participant."""

CAMERA = {
    "cameras.names": ["a"],
    "cameras.extrinsics.a": [1.5, 0.0, 1.6, -0.5, 0.5, -0.5, 0.5],
}
CAMERA_BY_TF = {
    "cameras.names": ["a"],
    "cameras.slots": ["front"],
    "extrinsics.source": "tf",
}
OPTIONAL_TYPES = {
    "autoware_planning_msgs": ("LaneletRoute", "Trajectory", "TrajectoryPoint"),
    "tf2_msgs": ("TFMessage",),
}
"""Package to types of which a topic is, where it is installed."""

VARIABLE = (
    (re.compile("^/camera/[^/]+/"), "/camera/*/"),
    (re.compile("^/raster/[^/]+/"), "/raster/*/"),
)
"""Names of cameras are the vehicle's, names of slots the bundle's."""

ROAD = """<OpenDRIVE><header revMajor="1" revMinor="4" name="straight"/>
<road name="r" length="100.0" id="1" junction="-1"><planView>
<geometry s="0.0" x="0.0" y="0.0" hdg="0.0" length="100.0"><line/></geometry></planView>
<lanes><laneSection s="0.0"><center><lane id="0" type="none" level="false"/></center>
<right><lane id="-1" type="driving" level="false">
<width sOffset="0.0" a="3.5" b="0.0" c="0.0" d="0.0"/></lane></right></laneSection></lanes></road>
</OpenDRIVE>"""

DISCOVERY_S = 10.0

Uses = dict[str, dict[tuple[str, str, str], set[str]]]
"""By node: (element, attribute, singular) to names."""


def used() -> Uses:
    """Starts all nodes, one after the other, and returns what each uses."""
    _stand_in_for_missing_types()
    bundle = {"bundle.path": str(ROOT / "models" / "default")}
    uses: Uses = defaultdict(lambda: defaultdict(set))
    with tempfile.TemporaryDirectory() as folder:
        road = Path(folder) / "road.xodr"
        road.write_text(ROAD, encoding="utf-8")
        variants: list[tuple[Callable[..., RapNode], dict[str, Any]]] = [
            *(
                (PerceptionNode, {**bundle, **camera, "cameras.compressed": compressed})
                for camera, compressed in ((CAMERA, False), (CAMERA_BY_TF, True))
            ),
            (RasterNode, {**bundle, "cameras.names": ["a"]}),
            (PlannerNode, bundle),
            *((GuardNode, {"mode": mode}) for mode in TOPICS),
            (MapNode, {"map.path": str(road), "route.from_lanelets": True}),
        ]
        for kind, parameters in variants:
            _read(kind(overrides=[Parameter(n, value=v) for n, v in parameters.items()]), uses)
    return uses


def _stand_in_for_missing_types() -> None:
    """Any message type will do, because nothing is sent."""
    for package, names in OPTIONAL_TYPES.items():
        if find_spec(package) is None:
            module = ModuleType(f"{package}.msg")
            module.__dict__.update(dict.fromkeys(names, PathMsg))
            sys.modules[module.__name__] = module


def _read(node: RapNode, uses: Uses) -> None:
    node.start_by_itself()
    where = (node.get_name(), node.get_namespace())
    questions = {
        ("topics", "publish", "topic"): node.get_publisher_names_and_types_by_node,
        ("topics", "subscribe", "topic"): node.get_subscriber_names_and_types_by_node,
        ("services", "reply", "service"): node.get_service_names_and_types_by_node,
        ("services", "request", "service"): node.get_client_names_and_types_by_node,
    }
    _wait_until_known(node)
    for question, ask in questions.items():
        uses[node.get_name()][question] |= {_general(name) for name, _ in ask(*where)}
    # Of every node, once time is simulated.
    uses[node.get_name()]["topics", "subscribe", "topic"].add("/clock")
    node.destroy_node()


def _wait_until_known(node: RapNode) -> None:
    """Waits until ROS lists all topics of a node: it learns of them from another thread."""
    own = {publisher.topic_name for publisher in node.publishers}
    deadline_s = time.monotonic() + DISCOVERY_S
    while True:
        listed = node.get_publisher_names_and_types_by_node(node.get_name(), node.get_namespace())
        missing = own - {name for name, _ in listed}
        if not missing:
            return
        if time.monotonic() > deadline_s:
            sys.exit(f"{node.get_name()}: ROS does not list {', '.join(sorted(missing))}")
        time.sleep(0.01)


def _general(name: str) -> str:
    """Returns a name with what differs from vehicle to vehicle replaced by a wildcard."""
    for pattern, general in VARIABLE:
        name = pattern.sub(general, name)
    return name


def policy_xml(uses: Uses) -> str:
    """Returns the policy."""
    root = ET.Element("policy", version="0.2.0")
    enclaves = ET.SubElement(root, "enclaves")
    for path in sorted(set(ENCLAVES.values())):
        enclave = ET.SubElement(enclaves, "enclave", path=path)
        profiles = ET.SubElement(enclave, "profiles")
        for name in sorted(uses):
            if ENCLAVES[name] == path:
                _add_profile(profiles, name, uses[name])
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add_profile(
    profiles: ET.Element, name: str, uses: dict[tuple[str, str, str], set[str]]
) -> None:
    profile = ET.SubElement(profiles, "profile", ns="/", node=name)
    for (element, attribute, singular), names in sorted(uses.items()):
        if not names:
            continue
        group = ET.SubElement(profile, element, {attribute: "ALLOW"})
        for each in sorted(names):
            ET.SubElement(group, singular).text = each


def main(arguments: Sequence[str]) -> int:
    """Writes the policy, or compares it."""
    # Alone: ROS knows nodes by name, and answers for any of that name in the domain.
    rclpy.init(domain_id=free_domain())
    try:
        wanted = policy_xml(used())
    finally:
        rclpy.try_shutdown()
    if "--check" not in arguments:
        POLICY.write_text(wanted, encoding="utf-8")
        return 0
    if POLICY.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{POLICY.relative_to(ROOT)}: out of date; run .venv/bin/python tools/sros2_policy.py")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
