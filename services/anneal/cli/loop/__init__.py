"""`anneal run`: the whole loop from a recipe, step by step, each skipped when it was done before."""
