"""The network: image encoder, geometry-aware planner head, and both together."""
