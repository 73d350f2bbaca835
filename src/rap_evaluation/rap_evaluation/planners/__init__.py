"""Whoever can drive, and what they may look at."""
