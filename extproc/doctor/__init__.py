"""Checks of a machine or pod: is it behind the gateway, with no way around, and is the gateway itself in order."""
