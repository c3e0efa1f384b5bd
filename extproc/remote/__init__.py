"""The console of a gateway, asked over its REST API: what commands use in place of the local store."""
