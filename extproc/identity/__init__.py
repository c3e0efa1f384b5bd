"""Turn a presented token into a verified principal, given keys; nothing here does I/O."""
