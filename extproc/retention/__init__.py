"""Remove by rule, hold by order, and keep a record of both."""
