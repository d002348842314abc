"""Long-running jobs: accepted once, run in processes of their own, fenced, watched, cancelled, resumed."""
