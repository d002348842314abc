"""What the engine of serving can do, for every service that has to know it."""
