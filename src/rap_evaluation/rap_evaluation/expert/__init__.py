"""The rule-based expert: drives by rules on what the simulation knows, and is scored like anyone."""
