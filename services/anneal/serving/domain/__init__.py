"""Rules of serving: which adapters may be loaded, which stay, how tokens may be chosen."""
