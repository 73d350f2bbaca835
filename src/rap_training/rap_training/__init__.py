"""Offline training: data on the fly from logs, the model, its losses, fitting and export."""
