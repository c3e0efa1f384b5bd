"""The settings that point an unmodified client at the gateway, and how each shell writes them. Pure."""
