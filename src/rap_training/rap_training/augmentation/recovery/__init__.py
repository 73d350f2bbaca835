"""Samples beside the recorded drive, with a drivable way back to it as the label."""
