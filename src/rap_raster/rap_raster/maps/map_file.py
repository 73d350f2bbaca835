"""Road map files of all supported formats."""

from __future__ import annotations

from pathlib import Path

from rap_raster.maps.lanelet2 import load_lanelet2
from rap_raster.maps.lanelet2_file import Projection
from rap_raster.maps.opendrive import load_opendrive
from rap_raster.maps.vector_map import VectorMap
from rap_raster.maps.xml_file import MapError

SUFFIXES = (".xodr", ".xodr.gz", ".osm")
"""OpenDRIVE and Lanelet2."""


def load_map(path: Path, projection: Projection | None = None) -> VectorMap:
    """Loads a road map; its format is told by its suffix.

    Args:
        path: A file with one of `SUFFIXES`.
        projection: Of a Lanelet2 map, see `load_lanelet2`; OpenDRIVE maps are in metres already.

    Raises:
        MapError: If the suffix is another, the file cannot be used, or an OpenDRIVE map is given a
            projection.
    """
    if path.name.endswith(".osm"):
        return load_lanelet2(path, projection)
    if path.name.endswith((".xodr", ".xodr.gz")):
        if projection is not None:
            raise MapError(
                f"{path}: projection: is {projection.kind.value}, expected none: OpenDRIVE is in "
                "metres already"
            )
        return load_opendrive(path)
    raise MapError(f"{path}: suffix: expected one of {', '.join(SUFFIXES)}")
