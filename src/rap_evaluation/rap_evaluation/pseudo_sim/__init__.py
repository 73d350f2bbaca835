"""Pseudo-simulation: plans are scored in logged scenes and again in rendered ones that follow."""
