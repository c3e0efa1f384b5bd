"""Recorded documents as people read them: what strangers wrote becomes markup here, and nothing of it is markup."""
