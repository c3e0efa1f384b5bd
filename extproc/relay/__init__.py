"""The proxy of `extproc run` on this machine's loopback: it adds a fresh token to each CONNECT."""
