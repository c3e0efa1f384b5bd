"""Supply the credentials that the gateway sends upstream in place of the caller's."""
