"""Rules, values and tables of synthesis: no transport, no clock, no environment."""
