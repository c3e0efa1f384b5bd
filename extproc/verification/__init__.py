"""Recompute the evidence: what was sealed, signed and witnessed, against what a store has."""
