"""Rules of the gateway: what the OpenAI protocol means here, and what is refused."""
