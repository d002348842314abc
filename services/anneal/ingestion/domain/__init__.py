"""What ingestion knows without touching the outside world."""
