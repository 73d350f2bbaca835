"""A map file with one straight road along the probe's drive."""

from __future__ import annotations

from pathlib import Path

from graph_probe import START

STRAIGHT_ROAD = f"""<?xml version="1.0"?>
<OpenDRIVE>
  <header revMajor="1" revMinor="4" name="straight"/>
  <road name="r" length="400.0" id="1" junction="-1">
    <planView>
      <geometry s="0.0" x="0.0" y="{START[1] + 1.75}" hdg="0.0" length="400.0"><line/></geometry>
    </planView>
    <lanes><laneSection s="0.0">
      <center><lane id="0" type="none" level="false"/></center>
      <right><lane id="-1" type="driving" level="false">
        <width sOffset="0.0" a="3.5" b="0.0" c="0.0" d="0.0"/>
        <roadMark sOffset="0.0" type="solid" color="standard" width="0.15"/>
      </lane></right>
    </laneSection></lanes>
  </road>
</OpenDRIVE>
"""


def write_straight_road(folder: Path) -> Path:
    """Writes the map and returns its path."""
    path = folder / "straight.xodr"
    path.write_text(STRAIGHT_ROAD)
    return path
