"""What curation refuses beyond a wrong request."""

from __future__ import annotations

from anneal.kit.errors import NotYet


class IndexIncomplete(NotYet):
    """A benchmark item cannot be indexed, so nothing can be said to be free of it."""

    reason = "INDEX_INCOMPLETE"


class AlreadySplit(NotYet):
    """The rows have splits; splitting them again could move a test row into training."""

    reason = "ALREADY_SPLIT"
