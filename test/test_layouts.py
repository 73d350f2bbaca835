"""The layouts for RViz and Foxglove show topics that the graph has.

Which those are says the SROS2 policy, which test_sros2_policy.py compares with the running nodes.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest
import yaml
from graph_probe import ROOT

CONFIG = ROOT / "config"
FOXGLOVE_KEYS = {"imageTopic", "topicPath", "topicToRender", "value"}


def graph_topics() -> list[str]:
    return [topic.text for topic in ET.parse(CONFIG / "sros2" / "policy.xml").iter("topic")]


def rviz_topics() -> Iterator[str]:
    layout = yaml.safe_load((CONFIG / "rap.rviz").read_text())
    for display in layout["Visualization Manager"]["Displays"]:
        if "Topic" in display:
            yield display["Topic"]["Value"]


def foxglove_topics() -> Iterator[str]:
    layout = json.loads((CONFIG / "foxglove.json").read_text())
    open_ends = list(layout["configById"].values())
    while open_ends:
        item = open_ends.pop()
        if isinstance(item, list):
            open_ends += item
        elif isinstance(item, dict):
            open_ends += item.values()
            yield from item.get("topics", {})
            for key in FOXGLOVE_KEYS & item.keys():
                yield item[key].partition(".")[0]


@pytest.mark.parametrize("topics", [rviz_topics, foxglove_topics])
def test_every_topic_of_a_layout_is_in_the_graph(topics):
    shown = set(topics())
    pictures = {"/raster/front/image", "/raster/front/overlay"}
    assert {"/rap/trajectory", "/rap/shadow/trajectory", "/route", *pictures} <= shown
    known = graph_topics()
    assert [name for name in shown if not any(fnmatchcase(name, k) for k in known)] == []


def test_the_panels_of_the_foxglove_layout_are_those_it_configures():
    layout = json.loads((CONFIG / "foxglove.json").read_text())
    open_ends, placed = [layout["layout"]], set()
    while open_ends:
        item = open_ends.pop()
        if isinstance(item, str):
            placed.add(item)
        else:
            open_ends += [item["first"], item["second"]]
    assert placed == layout["configById"].keys()
