"""Put signed checkpoints where whoever has power over the store has none."""
