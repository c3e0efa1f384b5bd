"""Sign a person or a job in at the company's identity provider, and give clients tokens for the gateway."""
