"""Samples as pictures for people: a contact sheet and a file for the Rerun viewer."""
