"""The gateway's certificate authority: what clients trust, and the certificates of its two TLS listeners."""
