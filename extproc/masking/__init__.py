"""Find secrets in what passes and take them out, however the text is cut into pieces."""
