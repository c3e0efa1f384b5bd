"""Write what was recorded to files, with what proves it."""
