"""Build the document of an exchange; nothing here does I/O."""
