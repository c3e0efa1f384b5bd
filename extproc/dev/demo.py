"""A tour through the running development gateway."""
