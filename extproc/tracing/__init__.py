"""Trace lines of code to the suggestions that they come from."""
