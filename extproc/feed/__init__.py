"""Tell a SIEM of everything that was recorded."""
