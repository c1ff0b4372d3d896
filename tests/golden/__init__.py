"""Golden cases: what Conquest did, replayed against this server."""
