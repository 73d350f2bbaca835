from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from rap_bringup.paths import resource
from rap_bringup.played_topics import played_pattern

INPUTS = ("odometry", "objects", "route", "command", "rap/map")


def is_played(topic: str, *arguments: object) -> bool:
    """As rosbag2 does: `std::regex_match`, which is of the whole name."""
    return re.fullmatch(played_pattern(*arguments), topic) is not None


@pytest.mark.parametrize(
    "topic",
    [
        *(f"/{name}" for name in INPUTS),
        "/tf_static",
        "/camera/front_left/image",
        "/camera/front_left/image/compressed",
        "/camera/front_left/camera_info",
    ],
)
def test_what_the_graph_reads_of_a_recording_is_played(topic):
    assert is_played(topic, INPUTS)


def test_nothing_that_drive_process_or_guard_publish_is_played():
    """The policy says what they publish; test_sros2_policy.py compares it with the nodes."""
    enclaves = ET.parse(resource("config/sros2/policy.xml")).iter("enclave")
    published = {
        topic.text
        for enclave in enclaves
        if enclave.get("path") != "/rap/map"
        for topic in enclave.findall(".//topics[@publish='ALLOW']/topic")
    }
    assert {"/rap/candidates", "/rap/trajectory", "/rap/objects", "/diagnostics"} <= published
    assert [topic for topic in published if is_played(topic, INPUTS)] == []


def test_relative_names_are_inside_the_namespace_and_absolute_ones_stay():
    arguments = (("objects", "/localization/kinematic_state"), "/vehicle/")
    played = ["/vehicle/objects", "/localization/kinematic_state", "/vehicle/camera/a/image"]
    assert all(is_played(topic, *arguments) for topic in [*played, "/tf_static"])
    others = ["/objects", "/vehicle/rap/objects", "/camera/a/image", "/vehicle/camera/a/b/image"]
    assert not any(is_played(topic, *arguments) for topic in others)
