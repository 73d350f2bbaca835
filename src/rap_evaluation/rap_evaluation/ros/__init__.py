"""ROS nodes of this package: parameters, conversion and one call into the library."""
