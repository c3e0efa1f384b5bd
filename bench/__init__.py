"""Measure the ext_proc service against a service that does nothing; see README.md."""
