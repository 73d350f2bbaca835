from __future__ import annotations

import numpy as np
import pytest

from rap_bringup.drives.commonroad import read_commonroad
from rap_bringup.drives.recorded_drive import DriveError
from rap_raster.scene import LineKind
from rap_raster.vehicle import REAR_AXLE_TO_CENTER_SHARE

FILES = (
    "DEU_A9-3_1_T-1",
    "USA_Lanker-1_1_T-1",
    "USA_Peach-4_8_T-1",
    "USA_US101-3_3_T-1",
    "USA_US101-4_1_T-1",
)


@pytest.mark.data
@pytest.mark.parametrize("name", FILES)
def test_recorded_scenarios_give_a_drive_with_a_route(real_data, name):
    drive = read_commonroad(real_data / "commonroad_ngsim" / f"{name}.xml")
    assert drive.route_m is not None, drive.route_source
    assert len(drive.objects) >= 20
    first, last = drive.ego[0], drive.ego[-1]
    assert np.hypot(last.x_m - first.x_m, last.y_m - first.y_m) > 10
    fastest = max(drive.ego, key=lambda state: abs(state.vx_mps))
    assert fastest.vx_mps > 3
    assert abs(fastest.vy_mps) < 0.2 * fastest.vx_mps  # it drives where it points
    for step in drive.objects:
        ego = next(state for state in drive.ego if state.stamp_ns == step.stamp_ns)
        offsets = step.boxes.centers_m[:, :2] - [ego.x_m, ego.y_m]
        assert (np.linalg.norm(offsets, axis=1) > 1.0).all()


def scenario(*, obstacle="car", steps=25, bound="", version="2018b", extra="") -> str:
    """Two lanes that lead the same way; one car per lane, the left one at 10 m/s."""

    def points(y):
        return "".join(f"<point><x>{x}</x><y>{y}</y></point>" for x in (0, 100))

    def lanelet(number, low, tag, other):
        return (
            f'<lanelet id="{number}"><leftBound>{points(low + 3)}</leftBound>'
            f"<rightBound>{points(low)}{bound}</rightBound>"
            f'<{tag} ref="{other}" drivingDir="same"/></lanelet>'
        )

    def state(name, step, y, speed):
        return (
            f"<{name}><position><point><x>{5 + speed * step * 0.1}</x><y>{y}</y></point></position>"
            f"<orientation><exact>0</exact></orientation><time><exact>{step}</exact></time></{name}>"
        )

    def car(number, y, speed):
        shape = "<shape><rectangle><length>4</length><width>2</width></rectangle></shape>"
        rest = "".join(state("state", k, y, speed) for k in range(1, steps))
        return (
            f'<obstacle id="{number}"><role>dynamic</role><type>{obstacle}</type>{shape}'
            f"{state('initialState', 0, y, speed)}<trajectory>{rest}</trajectory></obstacle>"
        )

    return (
        f'<commonRoad timeStepSize="0.1" commonRoadVersion="{version}">'
        f"{lanelet(1, 0, 'adjacentLeft', 2)}{lanelet(2, 3, 'adjacentRight', 1)}"
        f"{car(11, 1.5, 5.0)}{car(12, 4.5, 10.0)}{extra}</commonRoad>"
    )


def read_text(tmp_path, text):
    path = tmp_path / "scenario.xml"
    path.write_text(text)
    return read_commonroad(path)


def test_the_vehicle_that_drives_farthest_is_the_ego_at_its_rear_axle(tmp_path):
    drive = read_text(tmp_path, scenario())
    first, last = drive.ego[0], drive.ego[-1]
    assert first.x_m == pytest.approx(5.0 - 4.0 * REAR_AXLE_TO_CENTER_SHARE)
    assert (first.y_m, first.z_m) == (4.5, 0.0)
    assert last.vx_mps == pytest.approx(10.0)
    for k, step in enumerate(drive.objects):
        np.testing.assert_allclose(step.boxes.centers_m, [[5.0 + 0.5 * k, 1.5, 0.8]])
    np.testing.assert_allclose(drive.objects[1].boxes.velocities_mps, [[5.0, 0.0]])


def test_lanes_of_one_road_are_divided_inside_and_bounded_outside_only(tmp_path):
    lines = read_text(tmp_path, scenario()).map.polylines
    dividers = [lines[int(i)] for i in np.flatnonzero(lines.kinds == LineKind.LANE_DIVIDER)]
    assert dividers
    assert all((line[:, 1] == 3.0).all() for line in dividers)
    edges = [lines[int(i)] for i in np.flatnonzero(lines.kinds == LineKind.ROAD_BOUNDARY)]
    inner = [(np.abs(line[:, 1] - 3.0) < 1.0).any() for line in edges]
    assert edges
    assert not any(inner)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<commonRoad", "malformed XML"),
        ("<other/>", "root is <other>, expected <commonRoad>"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><commonRoad/>', "document type declarations"),
        ("<commonRoad/>", "attribute 'timeStepSize' is missing"),
        (scenario(obstacle="pedestrian"), "no vehicle is recorded"),
        (scenario(steps=5), "no vehicle is recorded for 20 steps"),
        (scenario().replace("<length>4</length>", ""), "has no shape/rectangle/length"),
        (scenario().replace("<x>100</x>", "<x>nan</x>", 1), "x is nan"),
        (scenario(bound="<point><x>1</x><y>0</y></point>"), "bounds of different length"),
    ],
)
def test_malformed_scenarios_are_one_line(tmp_path, text, reason):
    with pytest.raises(DriveError, match=r"scenario\.xml: ") as caught:
        read_text(tmp_path, text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_neighbor_that_was_cut_off_is_no_neighbor(tmp_path):
    drive = read_text(tmp_path, scenario().replace('<adjacentRight ref="', '<adjacentRight ref="9'))
    neighbors = [(lane.left_neighbor, lane.right_neighbor) for lane in drive.map.lanes.values()]
    assert sum(other is not None for pair in neighbors for other in pair) == 1
    assert drive.route_m is not None


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DriveError, match=r"none\.xml: cannot be read"):
        read_commonroad(tmp_path / "none.xml")
