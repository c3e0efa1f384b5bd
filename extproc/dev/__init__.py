"""Provide what `make run` needs and production never imports."""
