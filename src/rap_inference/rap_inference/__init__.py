"""The model bundle and the backends that run its networks. No torch, no ROS."""
