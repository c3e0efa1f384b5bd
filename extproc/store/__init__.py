"""Keep the documents of exchanges, append-only, and read them back."""
