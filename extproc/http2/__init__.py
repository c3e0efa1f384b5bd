"""An HTTP/2 server for gRPC streams of a neighbouring Envoy, without TLS and with prior knowledge (RFC 9113)."""
