"""The traffic world: SUMO on OpenDRIVE maps."""
