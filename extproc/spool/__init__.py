"""Keep what happens on disk before it is released, until a store has it."""
