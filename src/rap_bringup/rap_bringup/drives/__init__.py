"""Readers that turn public recordings into drives, and the drives themselves."""
