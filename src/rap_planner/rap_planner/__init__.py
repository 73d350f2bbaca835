"""From aligned features to a trajectory: planner, route, trajectory and guard logic."""
