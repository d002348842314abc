"""The rules of evaluation: scores, error bars, paired comparisons and verdicts."""
