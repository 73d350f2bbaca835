"""Offline evaluation: logs, traffic, closed loop, metrics and reports."""
