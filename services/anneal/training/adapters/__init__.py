"""One file per outside thing that training meets."""
