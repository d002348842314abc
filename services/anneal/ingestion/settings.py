"""What ingestion can be told."""

from __future__ import annotations

from pydantic import Field

from anneal.ingestion.domain.limits import ArchiveLimits, DocumentLimits, RowLimits
from anneal.kit.options import Options
from anneal.kit.settings import ServiceSettings


class IngestionOptions(Options):
    """Limits that keep bad input from hurting anybody. Sizes are bytes.

    Attributes:
        max_upload_bytes: largest file; one file of weights as transformers writes it, 50 GB, is below the default. The
            volume of `/data` holds each file until it is whole.
        max_line_bytes: longest line or record of a row file; a longer one is quarantined.
        max_json_depth: deepest nesting of a row.
        max_members: most files in an archive.
        max_member_bytes: largest file in an archive.
        max_expanded_bytes: most bytes all files of an archive may have together.
        max_expansion: most expanded bytes per packed byte.
        max_parse_seconds: longest time that one document's parser may take; then the document is quarantined.
        max_parse_memory_bytes: most memory of the process that parses documents; one that needs more is quarantined.
        hub_owners: users and organisations of the Hugging Face Hub under which datasets may be published; none by
            default, since whoever may call the service could publish what its token can write.
    """

    max_upload_bytes: int = Field(default=48 << 30, gt=0)
    max_line_bytes: int = Field(default=RowLimits().max_line_bytes, gt=0)
    max_json_depth: int = Field(default=64, gt=0)
    max_members: int = Field(default=ArchiveLimits().max_members, gt=0)
    max_member_bytes: int = Field(default=ArchiveLimits().max_member_bytes, gt=0)
    max_expanded_bytes: int = Field(default=ArchiveLimits().max_total_bytes, gt=0)
    max_expansion: float = Field(default=ArchiveLimits().max_ratio, gt=1)
    max_parse_seconds: float = Field(default=DocumentLimits().max_seconds, gt=0)
    max_parse_memory_bytes: int = Field(default=DocumentLimits().max_memory_bytes, ge=512 << 20)
    hub_owners: tuple[str, ...] = ()

    def archive_limits(self) -> ArchiveLimits:
        """The limits on archives."""
        return ArchiveLimits(
            max_total_bytes=self.max_expanded_bytes,
            max_member_bytes=self.max_member_bytes,
            max_members=self.max_members,
            max_ratio=self.max_expansion,
        )


class Settings(ServiceSettings):
    """Settings of the process."""

    ingestion: IngestionOptions = IngestionOptions()
