"""The REST API of the console: the same roles as its pages, for programs with a token."""
