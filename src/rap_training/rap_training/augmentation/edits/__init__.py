"""Samples with one thing changed: how edits are found, checked, kept and used."""
