"""The committed SROS2 policy allows what the running nodes use, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from graph_probe import ROOT, environment

pytestmark = pytest.mark.ros

POLICY = ROOT / "config" / "sros2" / "policy.xml"


def test_the_policy_is_what_the_nodes_need():
    command = [sys.executable, "tools/sros2_policy.py", "--check"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("node", "access", "topic"),
    [
        ("perception_node", "subscribe", "/tf_static"),
        ("map_node", "subscribe", "/lanelet_route"),
        ("map_node", "publish", "/route"),
        ("guard_node", "publish", "/rap/autoware_trajectory"),
        ("guard_node", "publish", "/rap/shadow/autoware_trajectory"),
    ],
)
def test_topics_of_packages_that_need_not_be_installed_are_allowed_all_the_same(
    node, access, topic
):
    profile = ET.parse(POLICY).find(f".//profile[@node='{node}']")
    allowed = [each.text for each in profile.iterfind(f"topics[@{access}='ALLOW']/topic")]
    assert topic in allowed


def test_only_the_guard_may_publish_what_a_controller_reads():
    publishers = [
        profile.get("node")
        for profile in ET.parse(POLICY).iter("profile")
        for topic in profile.iterfind("topics[@publish='ALLOW']/topic")
        if topic.text == "/rap/trajectory"
    ]
    assert publishers == ["guard_node"]
