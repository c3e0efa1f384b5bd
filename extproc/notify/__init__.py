"""Tell people and programs that an approval waits, or has ended."""
