"""The rule-based expert: it knows what the simulation knows, and the PDM score judges it."""
