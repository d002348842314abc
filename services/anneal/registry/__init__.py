"""The registry: the one owner of names, of the gate in front of apps, and of lineage."""
