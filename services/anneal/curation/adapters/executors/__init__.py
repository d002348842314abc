"""Where looks at rows run: threads of this machine, or Ray Data on a cluster. Both give the same results."""
