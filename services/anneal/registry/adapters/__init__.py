"""What the registry meets outside: a database and the object store."""
