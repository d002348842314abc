"""gRPC for every service: the server, its one interceptor, statuses, channels."""
