"""Objects of other stacks: what each type says, and that no content breaks the conversion.

The packages of these messages are not among the wheels here, so all but MarkerArray are stood in
for by plain objects with the fields of the message definitions.
"""

from __future__ import annotations

import math
from types import SimpleNamespace as Fields

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from fuzzing import assert_one_line, fuzzed
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from hypothesis import given
from hypothesis import strategies as st
from rap_msgs.msg import TrackedObjects
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from rap_perception.object_messages import OBJECT_TYPES
from rap_perception.objects import ObjectsError, checked_objects
from rap_raster.observations import TrackedObjects as Objects
from rap_raster.ros.conversions import MessageError, header, objects_msg
from rap_raster.ros.optional_messages import message_class
from rap_raster.scene import Boxes, Lights, ObjectClass

STAMP_NS = 1_700_000_000_123_456_789
YAW = np.pi / 2
TURNED = Quaternion(z=float(np.sin(YAW / 2)), w=float(np.cos(YAW / 2)))


def pose(x: float = 10.0, y: float = 5.0, z: float = 1.0, q: Quaternion = TURNED) -> Pose:
    return Pose(position=Point(x=x, y=y, z=z), orientation=q)


def head() -> Header:
    return header(STAMP_NS, "map")


def marker(**changes) -> Marker:
    message = Marker(header=head(), ns="car", type=Marker.CUBE, pose=pose())
    message.scale = Vector3(x=4.5, y=1.9, z=1.6)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def autoware_object(number: int = 1, **shape) -> Fields:
    box = {"type": 0, "dimensions": Vector3(x=4.5, y=1.9, z=1.6), "footprint": Fields(points=[])}
    twist = Fields(linear=Vector3(x=8.0, y=1.0), angular=Vector3())
    return Fields(
        object_id=Fields(uuid=np.full(16, number, np.uint8)),
        existence_probability=0.75,
        classification=[Fields(label=0, probability=0.2), Fields(label=1, probability=0.8)],
        kinematics=Fields(
            pose_with_covariance=Fields(pose=pose()), twist_with_covariance=Fields(twist=twist)
        ),
        shape=Fields(**(box | shape)),
    )


def detection(name: str = "car", score: float = 0.75) -> Fields:
    return Fields(
        results=[
            Fields(hypothesis=Fields(class_id="dog", score=0.5 * score)),
            Fields(hypothesis=Fields(class_id=name, score=score)),
        ],
        bbox=Fields(center=pose(), size=Vector3(x=4.5, y=1.9, z=1.6)),
        id="",
    )


def derived_object(number: int = 7, kind: int = 6, shape: Fields | None = None) -> Fields:
    return Fields(
        id=number,
        pose=pose(),
        twist=Fields(linear=Vector3(x=-1.0, y=8.0), angular=Vector3()),
        shape=shape or Fields(type=1, dimensions=[4.5, 1.9, 1.6]),
        classification=kind,
    )


def own_objects(stamp_ns: int = STAMP_NS) -> TrackedObjects:
    boxes = Boxes.from_rows([(7, 1, 10.0, 5.0, 1.0, 4.5, 1.9, 1.6, YAW, -1.0, 8.0)])
    one = np.ones(1, np.float32)
    return objects_msg(Objects(stamp_ns, boxes, Lights.empty(), 0 * one, one), "map")


MESSAGES = {
    "rap_msgs/TrackedObjects": own_objects,
    "visualization_msgs/MarkerArray": lambda: MarkerArray(markers=[marker()]),
    "autoware_perception_msgs/TrackedObjects": lambda: Fields(
        header=head(), objects=[autoware_object()]
    ),
    "vision_msgs/Detection3DArray": lambda: Fields(header=head(), detections=[detection()]),
    "derived_object_msgs/ObjectArray": lambda: Fields(header=head(), objects=[derived_object()]),
}


def read(kind: str, message: object):
    given = OBJECT_TYPES[kind].read(message)
    return given, checked_objects(given.stamp_ns or 0, given.columns)[0]


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_same_car_is_the_same_whatever_the_type(kind):
    """Types that carry a velocity say 8 m/s ahead and 1 m/s to the left of a car facing +y."""
    given, objects = read(kind, MESSAGES[kind]())
    assert (given.stamp_ns, given.frame_id) == (STAMP_NS, "map")
    boxes = objects.boxes
    assert list(boxes.classes) == [ObjectClass.VEHICLE]
    np.testing.assert_allclose(boxes.centers_m, [[10, 5, 1]])
    np.testing.assert_allclose(boxes.sizes_m, [[4.5, 1.9, 1.6]])
    np.testing.assert_allclose(boxes.yaws_rad, [YAW])
    if OBJECT_TYPES[kind].is_tracked:
        np.testing.assert_allclose(boxes.velocities_mps, [[-1, 8]], atol=1e-9)
    else:
        assert np.isnan(boxes.velocities_mps).all()


def test_probabilities_become_existence():
    for kind in ("autoware_perception_msgs/TrackedObjects", "vision_msgs/Detection3DArray"):
        assert read(kind, MESSAGES[kind]())[1].existences == pytest.approx(0.75)


def test_markers_that_are_no_objects_are_skipped_and_an_empty_array_is_an_empty_road():
    others = [marker(type=Marker.ARROW), marker(type=Marker.TEXT_VIEW_FACING)]
    others += [marker(action=Marker.DELETE), marker(action=Marker.DELETEALL)]
    given, objects = read("visualization_msgs/MarkerArray", MarkerArray(markers=others))
    # What deletes has a stamp, too: later than it, an empty road would make the next message late.
    assert (given.stamp_ns, given.frame_id, len(objects.boxes)) == (STAMP_NS, None, 0)
    given, objects = read("visualization_msgs/MarkerArray", MarkerArray(markers=[]))
    assert (given.stamp_ns, given.frame_id, len(objects.boxes)) == (None, None, 0)


@pytest.mark.parametrize("kind", MESSAGES)
def test_an_unset_stamp_is_none(kind):
    message = MESSAGES[kind]()
    for head_ in [m.header for m in getattr(message, "markers", [message])]:
        head_.stamp = Time()
    assert OBJECT_TYPES[kind].read(message).stamp_ns is None


@pytest.mark.parametrize("length", [1e-3, 0.5, 1.0, 2.0])
def test_headings_are_those_of_quaternions_of_any_length(length):
    half_rad = 0.5 * 2.1
    turn = Quaternion(z=length * math.sin(half_rad), w=length * math.cos(half_rad))
    item = marker()
    item.pose.orientation = turn
    _, objects = read("visualization_msgs/MarkerArray", MarkerArray(markers=[item]))
    assert objects.boxes.yaws_rad[0] == pytest.approx(2.1)


def test_markers_of_two_frames_are_refused():
    markers = [marker(), marker(header=header(STAMP_NS, "base_link"))]
    with pytest.raises(ObjectsError, match="markers are in the frames base_link, map"):
        read("visualization_msgs/MarkerArray", MarkerArray(markers=markers))


def test_shapes_that_are_no_box_become_one():
    corners = [Point(x=x, y=y) for x, y in ((0.0, 0.0), (4.0, 0.0), (4.0, 2.0))]
    footprint = Fields(type=2, footprint=Fields(points=corners))
    message = Fields(
        header=head(),
        objects=[
            autoware_object(1, type=1, dimensions=Vector3(x=0.8, z=1.8)),
            autoware_object(2, **vars(footprint)),
        ],
    )
    boxes = read("autoware_perception_msgs/TrackedObjects", message)[1].boxes
    np.testing.assert_allclose(boxes.sizes_m, [[0.8, 0.8, 1.8], [4.0, 2.0, 1.6]])
    # The middle of the footprint is 2 m ahead and 1 m to the left of a pose that faces +y.
    np.testing.assert_allclose(boxes.centers_m[1], [9.0, 7.0, 1.0])
    solids = [
        derived_object(1, shape=Fields(type=3, dimensions=[1.8, 0.4])),
        derived_object(2, shape=Fields(type=2, dimensions=[0.5])),
    ]
    message = Fields(header=head(), objects=solids)
    boxes = read("derived_object_msgs/ObjectArray", message)[1].boxes
    np.testing.assert_allclose(boxes.sizes_m, [[0.8, 0.8, 1.8], [1.0, 1.0, 1.0]])


def test_a_solid_that_is_no_box_is_left_out_and_the_others_stay():
    solids = [derived_object(1, shape=Fields(type=1, dimensions=[1.0])), derived_object(2)]
    given = OBJECT_TYPES["derived_object_msgs/ObjectArray"].read(
        Fields(header=head(), objects=solids)
    )
    objects, problem = checked_objects(STAMP_NS, given.columns)
    assert problem == "sizes[0]: is nan, expected a finite number; left out 1 of 2 objects"
    assert objects.boxes.ids.tolist() == [2]


def test_ids_last_and_stay_apart_even_if_uuids_collide():
    """The ids are the first bytes of the UUID; these three agree in them."""
    objects = [autoware_object(200) for _ in range(3)]
    for index, item in enumerate(objects):
        item.object_id.uuid[5] = index
    kind = "autoware_perception_msgs/TrackedObjects"
    first = read(kind, Fields(header=head(), objects=objects))[1].boxes.ids
    again = read(kind, Fields(header=head(), objects=objects))[1].boxes.ids
    assert len(set(first)) == 3
    np.testing.assert_array_equal(first, again)


def test_a_type_that_is_not_installed_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    expected = "vision_msgs/Detection3DArray is not installed: apt install ros-jazzy-vision-msgs"
    with pytest.raises(MessageError, match=expected):
        message_class("vision_msgs/Detection3DArray")
    assert message_class("visualization_msgs/MarkerArray") is MarkerArray


numbers = st.one_of(
    st.floats(), st.sampled_from([0.0, -1.0, 1e300, float("nan"), float("inf")]), st.floats(0, 5)
)
vectors = st.builds(lambda x, y, z: Fields(x=x, y=y, z=z), numbers, numbers, numbers)
quaternions = st.builds(
    lambda x, y, z, w: Fields(x=x, y=y, z=z, w=w), numbers, numbers, numbers, numbers
)
poses = st.builds(lambda p, q: Fields(position=p, orientation=q), vectors, quaternions)
stamps = st.builds(
    lambda sec: Fields(stamp=Fields(sec=sec, nanosec=0), frame_id="map"), st.integers(0, 2)
)
codes = st.integers(0, 255)
polygons = st.builds(lambda points: Fields(points=points), st.lists(vectors, max_size=3))
odd_items = {
    "visualization_msgs/MarkerArray": st.builds(
        lambda h, kind, p, s: Fields(header=h, ns="car", type=kind, action=0, pose=p, scale=s),
        stamps, st.sampled_from([1, 3, 9]), poses, vectors,
    ),
    "autoware_perception_msgs/TrackedObjects": st.builds(
        lambda i, p, v, existence, kind, size, area, label: Fields(
            object_id=Fields(uuid=np.full(16, i, np.uint8)),
            existence_probability=existence,
            classification=[Fields(label=label, probability=existence)] * (label % 2),
            kinematics=Fields(
                pose_with_covariance=Fields(pose=p),
                twist_with_covariance=Fields(twist=Fields(linear=v)),
            ),
            shape=Fields(type=kind, dimensions=size, footprint=area),
        ),
        codes, poses, vectors, numbers, st.integers(0, 3), vectors, polygons, codes,
    ),
    "vision_msgs/Detection3DArray": st.builds(
        lambda name, score, p, s: Fields(
            results=[Fields(hypothesis=Fields(class_id=name, score=score))] * (len(name) % 3),
            bbox=Fields(center=p, size=s),
        ),
        st.text(max_size=4), numbers, poses, vectors,
    ),
    "derived_object_msgs/ObjectArray": st.builds(
        lambda i, p, v, kind, size, label: Fields(
            id=i, pose=p, twist=Fields(linear=v), classification=label,
            shape=Fields(type=kind, dimensions=size),
        ),
        st.integers(0, 2**32 - 1), poses, vectors, st.integers(0, 5),
        st.lists(numbers, max_size=4), codes,
    ),
}  # fmt: skip
_LISTS = {"visualization_msgs/MarkerArray": "markers", "vision_msgs/Detection3DArray": "detections"}


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", odd_items)
@fuzzed
@given(data=st.data())
def test_whatever_the_numbers_the_answer_is_objects_or_one_line(kind, data):
    items = data.draw(st.lists(odd_items[kind], max_size=3))
    message = Fields(header=head(), **{_LISTS.get(kind, "objects"): items})
    try:
        _, objects = read(kind, message)
    except ObjectsError as error:
        assert_one_line(error)
    else:
        assert np.isfinite(objects.boxes.centers_m).all()
        assert (objects.boxes.sizes_m > 0).all()
