"""What ingestion refuses, each with its stable reason."""

from __future__ import annotations

from anneal.kit.errors import Conflict, Denied, Exists, Invalid, Missing, NotYet


class ArchiveRefused(Invalid):
    """An archive cannot be read, expands beyond a limit, or holds what no archive of documents should."""

    reason = "ARCHIVE_REFUSED"


class NothingToIngest(Invalid):
    """The input holds no row at all, or none that could be read."""

    reason = "DATASET_EMPTY"


class UploadMissing(Missing):
    """There is no upload of that name."""

    reason = "UPLOAD_MISSING"


class UploadExists(Exists):
    """The upload id stands for another file."""

    reason = "UPLOAD_EXISTS"


class UploadIncomplete(NotYet):
    """The upload is not whole yet."""

    reason = "UPLOAD_INCOMPLETE"


class UploadOutOfOrder(Conflict):
    """A chunk does not begin where the safe bytes end."""

    reason = "UPLOAD_OUT_OF_ORDER"


class UploadBusy(Conflict):
    """Another stream is writing the same upload."""

    reason = "UPLOAD_BUSY"


class UploadDigestMismatch(NotYet):
    """All bytes arrived, and they are not the announced file; the upload begins again at 0."""

    reason = "UPLOAD_DIGEST_MISMATCH"


class UploadCutOff(NotYet):
    """The stream ended before the file did; what arrived is safe."""

    reason = "UPLOAD_CUT_OFF"


class HubUnreachable(NotYet):
    """The Hub did not give the dataset."""

    reason = "HUB_UNREACHABLE"


class HubDatasetMissing(Missing):
    """The Hub has no such dataset or revision, or shows it to others only."""

    reason = "HUB_DATASET_MISSING"


class HubDatasetGated(Denied):
    """The dataset's owner has to let the caller in first."""

    reason = "HUB_DATASET_GATED"


class HubConfigUnknown(Invalid):
    """The dataset has no such subset, or several and none was named."""

    reason = "HUB_CONFIG_UNKNOWN"


class HubSplitUnknown(Invalid):
    """The dataset has no such split, or some whose use their names do not say."""

    reason = "HUB_SPLIT_UNKNOWN"


class HubDatasetUnsupported(Invalid):
    """The dataset is no table of rows: images, audio, archives, or a script."""

    reason = "HUB_DATASET_UNSUPPORTED"


class HubPushNotAllowed(Denied):
    """The settings do not allow datasets to be published under this owner."""

    reason = "HUB_PUSH_NOT_ALLOWED"


class HubRepositoryForeign(NotYet):
    """The repository holds files that no push made."""

    reason = "HUB_REPOSITORY_FOREIGN"


class HubCardRefused(Invalid):
    """The Hub does not take the dataset's card: its licence is none that it knows."""

    reason = "HUB_CARD_REFUSED"


class HubDenied(Denied):
    """The Hub does not let the server write there."""

    reason = "HUB_DENIED"


class FormatUnknown(Invalid):
    """No importer recognises the rows, or no reader the file."""

    reason = "FORMAT_UNKNOWN"


class FormatAmbiguous(Invalid):
    """The rows carry the marks of more than one format."""

    reason = "FORMAT_AMBIGUOUS"


class PlaceholdersMissing(Invalid):
    """The rows hold placeholders, and the order does not say what stands there."""

    reason = "PLACEHOLDERS_MISSING"


class FileUnreadable(Invalid):
    """A file of rows is damaged as a whole: no row of it can be found."""

    reason = "FILE_UNREADABLE"


class UndecodableText(ValueError):
    """Bytes that no encoding fits, or that are not what they claim to be; costs one file, not the job.

    Attributes:
        byte_offset: where the first byte stands that cannot be read.
    """

    def __init__(self, cause: str, *, byte_offset: int) -> None:
        super().__init__(cause)
        self.byte_offset = byte_offset


class UnreadableDocument(ValueError):
    """A file cannot be read, or its parser refuses it; costs that file, not the job.

    Attributes:
        reason: stable name of the cause, such as `encrypted` or `no_text_layer`; `unreadable` where a library gave up.
    """

    def __init__(self, cause: str, *, reason: str = "unreadable") -> None:
        super().__init__(cause)
        self.reason = reason
