"""Move what the spool has to the store, and sign what the store acknowledged."""
