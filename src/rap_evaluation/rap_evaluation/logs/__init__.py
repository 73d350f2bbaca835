"""The log format of the project: writing, reading, and looking at logs from any seat."""
