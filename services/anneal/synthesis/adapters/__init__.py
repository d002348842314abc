"""What synthesis touches outside: a teacher's endpoint, a journal on disk."""
