"""Fetch what verification needs from issuers: signing keys and, for Entra, group memberships."""
