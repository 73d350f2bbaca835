"""Scenes, cameras, maps and the rasterizer: what the vehicle sees, as cheap 3D primitives."""
