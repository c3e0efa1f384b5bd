"""Understand the wire formats of Copilot endpoints, one file each, pure and incremental."""
