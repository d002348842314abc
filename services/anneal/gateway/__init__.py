"""Gateway: the OpenAI protocol over HTTP, in front of deployments and base models."""
