"""Rules and values of the registry: no I/O, no clock, no transport."""
