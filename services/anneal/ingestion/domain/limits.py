"""How much one input may ask of the service. Sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """Bounds on what an archive may expand to.

    Attributes:
        max_total_bytes: all members together, expanded.
        max_member_bytes: one member, expanded.
        max_members: members, folders included.
        max_depth: folders in a member's path.
        max_ratio: expanded bytes per compressed byte; looked at after the first `ratio_slack_bytes`.
    """

    max_total_bytes: int = 8 << 30
    max_member_bytes: int = 64 << 20
    max_members: int = 500_000
    max_depth: int = 32
    max_ratio: float = 200.0
    ratio_slack_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLimits:
    """Bounds on one row of an imported file.

    Attributes:
        max_line_bytes: longest line or record; longer ones are quarantined and never held whole.
    """

    max_line_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLimits:
    """Bounds on what one document may ask of its parser.

    Attributes:
        max_seconds: longest time for one document.
        max_memory_bytes: most memory of the process that parses.
        max_pages: most pages, or files in the reading order of a book.
        max_characters: most characters of text.
        max_expanded_bytes: all members of a document that is an archive (docx, epub) together, expanded.
        max_members: members of such an archive.
        max_ratio: expanded bytes per compressed byte of one member; looked at above `ratio_slack_bytes`.
        ratio_slack_bytes: a member that expands to less may have any ratio.
        max_depth: deepest nesting of its XML.
    """

    max_seconds: float = 120.0
    max_memory_bytes: int = 2 << 30
    max_pages: int = 5_000
    max_characters: int = 50_000_000
    max_expanded_bytes: int = 256 << 20
    max_members: int = 10_000
    max_ratio: float = 200.0
    ratio_slack_bytes: int = 8 << 20
    max_depth: int = 200
