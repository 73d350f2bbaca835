"""The files of a log and their columns: the one log format of the project.

A log is a folder of uncompressed Arrow IPC files, so that readers map them into memory and copy
nothing. Two groups of files hold the same drive:

- the py123d 0.7 layout (`sync.arrow`, `ego_state_se3.arrow`, `box_detections_se3.arrow`,
  `traffic_light_detections.arrow`), which tools of that ecosystem read. There a log has one ego:
  the first of ours;
- `rap_*.arrow`, laid out for reading from any seat: one contiguous run of states and driving
  commands per track, a route per seat, the geometry of traffic lights, the map with its lane
  graph, calibrated cameras with their images, and whether the vehicle drove itself.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA = "rap.log/2"
METADATA_KEY = b"rap"
"""Schema metadata of `TRACKS`: JSON with schema, name, map, stamps, egos, license, provenance."""

TRACKS = "rap_tracks.arrow"
STATES = "rap_states.arrow"
ROUTES = "rap_routes.arrow"
LIGHTS = "rap_lights.arrow"
LIGHT_STATES = "rap_light_states.arrow"
POLYLINES = "rap_map_polylines.arrow"
POLYGONS = "rap_map_polygons.arrow"
LANES = "rap_map_lanes.arrow"
MAP_LIGHTS = "rap_map_lights.arrow"
ENGAGEMENT = "rap_engagement.arrow"
CAMERAS = "rap_cameras.arrow"
IMAGES = "rap_images.arrow"
SYNC = "sync.arrow"
EGO = "ego_state_se3.arrow"
BOXES = "box_detections_se3.arrow"
TRAFFIC_LIGHTS = "traffic_light_detections.arrow"

POINT = pa.list_(pa.float64(), 3)
POINTS = pa.list_(POINT)

COLUMNS: dict[str, pa.Schema] = {
    TRACKS: pa.schema(
        [
            ("track_id", pa.int32()),
            ("source_id", pa.int64()),
            ("class", pa.uint8()),
            ("size_m", POINT),
            ("rear_axle_m", pa.float64()),
            ("first_step", pa.int32()),
            ("last_step", pa.int32()),
        ]
    ),
    STATES: pa.schema(
        [
            ("state", pa.list_(pa.float64(), 7)),
            ("observed", pa.uint8()),  # 0 or 1: Arrow packs bools into bits, which need copying.
            ("command", pa.uint8()),
        ]
    ),
    ROUTES: pa.schema([("track_id", pa.int32()), ("lane_ids", pa.list_(pa.string()))]),
    LIGHTS: pa.schema(
        [
            ("lane_id", pa.string()),
            ("center_m", POINT),
            ("size_m", POINT),
            ("yaw_rad", pa.float64()),
        ]
    ),
    LIGHT_STATES: pa.schema([("state", pa.uint8())]),
    POLYLINES: pa.schema([("kind", pa.uint8()), ("points_m", POINTS)]),
    POLYGONS: pa.schema([("kind", pa.uint8()), ("points_m", POINTS)]),
    LANES: pa.schema(
        [
            ("id", pa.string()),
            ("centerline_m", POINTS),
            ("left_m", POINTS),
            ("right_m", POINTS),
            ("successors", pa.list_(pa.string())),
            ("left_neighbor", pa.string()),
            ("right_neighbor", pa.string()),
            ("in_junction", pa.bool_()),
            ("speed_limit_mps", pa.float64()),
        ]
    ),
    MAP_LIGHTS: pa.schema(
        [
            ("id", pa.string()),
            ("center_m", POINT),
            ("yaw_rad", pa.float64()),
            ("lane_ids", pa.list_(pa.string())),
        ]
    ),
    ENGAGEMENT: pa.schema([("engaged", pa.uint8())]),
    CAMERAS: pa.schema(
        [
            ("name", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("intrinsics", pa.list_(pa.float64(), 4)),  # fx, fy, cx, cy
            ("ego_from_camera", pa.list_(pa.float64(), 16)),  # Row after row.
            ("distortion_model", pa.string()),
            ("distortion", pa.list_(pa.float64())),
        ]
    ),
    IMAGES: pa.schema(
        [("camera", pa.string()), ("stamp_ns", pa.int64()), ("jpeg", pa.large_binary())]
    ),
}
"""Columns of the rap_* files.

`LIGHT_STATES` has one row per step and light, step after step; `ENGAGEMENT` one per step.
"""

NULLABLE = {
    LANES: ("left_m", "right_m", "left_neighbor", "right_neighbor", "speed_limit_mps"),
    CAMERAS: ("distortion_model",),
}
"""Columns that may have nulls: what is not known."""
