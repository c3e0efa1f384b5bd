"""Hold what touches something privileged until a person has decided."""
