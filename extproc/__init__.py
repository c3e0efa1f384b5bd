"""Put access control around GitHub Copilot traffic: an Envoy external-processing service."""
