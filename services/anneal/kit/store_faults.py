"""What an object store fails with, as refusals that name the cause and say what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from anneal.kit.errors import BackendFault, Down, NotYet


class StoreFault(BackendFault):
    """The object store refused, or did not answer."""

    backend = "store"


class BucketMissing(StoreFault, NotYet):
    """There is no such bucket, or container."""

    reason = "STORE_BUCKET_MISSING"


class StoreAccessDenied(StoreFault, NotYet):
    """The store does not know the credentials, or does not let them do this."""

    reason = "STORE_ACCESS_DENIED"


class StoreClockSkewed(StoreFault, NotYet):
    """The clock of this machine and that of the store are too far apart for a signature."""

    reason = "STORE_CLOCK_SKEWED"


class StoreMisconfigured(StoreFault, NotYet):
    """The store cannot be asked this way: a wrong region, or an address that is none."""

    reason = "STORE_MISCONFIGURED"


class StoreFull(StoreFault, NotYet):
    """The store has no room left, or a quota of it is used up."""

    reason = "STORE_FULL"


class StoreUnreachable(StoreFault, Down):
    """The store does not answer."""

    reason = "STORE_UNREACHABLE"


class StoreThrottled(StoreFault, Down):
    """The store asks for fewer requests."""

    reason = "STORE_THROTTLED"


class StoreFailed(StoreFault, Down):
    """The store failed for a reason of its own."""

    reason = "STORE_FAILED"


_BUCKET = frozenset(
    {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled", "BucketNotFound"}
)
_CLOCK = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestTimeInvalid"})
_FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "EntityTooLargeForQuota"})
_THROTTLED = frozenset({"SlowDown", "TooManyRequests", "ServerBusy", "OperationTimedOut", "RequestLimitExceeded"})
_REGION = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
_SIGNATURE = "SignatureDoesNotMatch"
_CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "InvalidSecurity",
        "AuthenticationFailed",
        "InvalidAuthenticationInfo",
        _SIGNATURE,
    }
)
_DOING: Mapping[str, str] = {
    "PUT": "write",
    "GET": "read",
    "HEAD": "read",
    "DELETE": "delete",
    "POST": "delete",  # S3 deletes in bulk
    "LIST": "list",
}
_OS_DENIED = ("1", "13", "30")
"""Not permitted, permission denied, read-only file system."""


class _Answer(NamedTuple):
    """What an error of the library says: the method that failed, HTTP's status and the store's own code and words."""

    method: str
    status: int
    code: str
    message: str
    text: str
    debug: str


def _read(error: BaseException) -> _Answer:
    whole = str(error)
    text, _, debug = whole.partition("\n\nDebug source:")
    method = "LIST" if "list request" in text else _first(r"Error performing ([A-Z]+) ", text)
    return _Answer(
        method=method,
        status=int(_first(r"status code: (\d{3})", text) or 0),
        code=_first(r"<Code>([^<]+)</Code>", text) or _first(r'"reason"\s*:\s*"([^"]+)"', text),
        message=_first(r"<Message>([^<]+)</Message>", text),
        text=" ".join(text.split()),
        debug=debug,
    )


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""


def is_missing_object(error: BaseException) -> bool:
    """Whether the store answers and the bucket is there, but not the object."""
    return isinstance(error, (FileNotFoundError, NotFoundError)) and _read(error).code not in _BUCKET


def is_silent(error: BaseException) -> bool:
    """Whether the store has said no more than a status, as it does to HEAD."""
    answer = _read(error)
    return answer.method == "HEAD" and answer.status >= 400


def store_fault(error: BaseException, url: str) -> StoreFault | None:
    """The refusal for what the library has raised; None for what is no failure of the store.

    Args:
        error: what it raised.
        url: of the store.
    """
    if isinstance(error, AlreadyExistsError) or is_missing_object(error):
        return None
    if not isinstance(error, (BaseError, FileNotFoundError)) and type(error).__name__ != "PanicException":
        return None
    answer = _read(error)
    facts: dict[str, Any] = {"store": url} | ({"code": answer.code} if answer.code else {})
    made = _of_the_request(answer, url, facts) or _of_the_answer(error, answer, url, facts)
    return made or StoreFailed(f"the store {url} failed: {_words(answer)}", **facts)


def _of_the_answer(error: BaseException, answer: _Answer, url: str, facts: dict[str, Any]) -> StoreFault | None:
    """What the store itself has answered."""
    if answer.code in _BUCKET:
        return BucketMissing(
            f"the bucket of the store {url} does not exist: create it, or correct ANNEAL_STORE__URL", **facts
        )
    if answer.code in _CLOCK:
        return StoreClockSkewed(
            f"the store {url} refuses the time of the request: set the clock of this machine (NTP)", **facts
        )
    if answer.code in _REGION:
        return StoreMisconfigured(
            f"the bucket of {url} is in another region: set `region` in ANNEAL_STORE__OPTIONS ({_words(answer)})",
            **facts,
        )
    if answer.status == 507 or answer.code in _FULL or "(os error 122)" in answer.text:
        return StoreFull(f"the store {url} is full: make room there, or raise its quota ({_words(answer)})", **facts)
    if answer.status == 429 or answer.code in _THROTTLED or (answer.status == 503 and not answer.code):
        return StoreThrottled(f"the store {url} asks for fewer requests ({_words(answer)})", **facts)
    denied = answer.status in (401, 403) or isinstance(error, (PermissionDeniedError, UnauthenticatedError))
    if denied or answer.code in _CREDENTIALS:
        return StoreAccessDenied(_denied(answer, url), **facts)
    if answer.status == 405 and answer.method == "POST":
        return StoreMisconfigured(
            f"the store {url} cannot delete in bulk: set `disable_bulk_delete` to true in ANNEAL_STORE__OPTIONS",
            **facts,
        )
    return None


def _of_the_request(answer: _Answer, url: str, facts: dict[str, Any]) -> StoreFault | None:
    """What kept the request from being answered: the network, TLS, the machine itself."""
    number = _first(r"\(os error (\d+)\)", answer.text)
    if "LocalFileSystem" in answer.text and number in _OS_DENIED:
        return StoreAccessDenied(
            f"the folder of the store {url} may not be read or written: give it to the user that this process runs as "
            f"({_words(answer)})",
            **facts,
        )
    if "BadScheme" in answer.debug:
        return StoreMisconfigured(
            f"the address of the store {url} is not encrypted: set client_options.allow_http to true in "
            "ANNEAL_STORE__OPTIONS to allow it",
            **facts,
        )
    if "BareRedirect" in answer.debug:
        return StoreMisconfigured(
            f"the bucket of {url} is in another region: set `region` in ANNEAL_STORE__OPTIONS", **facts
        )
    if "HTTP error" not in answer.text and "HttpError" not in answer.debug:
        return None
    if "/latest/api/token" in answer.text or "/latest/meta-data" in answer.text:
        return StoreAccessDenied(
            f"there are no credentials for the store {url}: set those of its secret, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give the service account a workload identity",
            **facts,
        )
    return StoreUnreachable(
        f"the store {url} does not answer: {_why_unreachable(answer)} (ANNEAL_STORE__URL, ANNEAL_STORE__OPTIONS)",
        **facts,
    )


def _why_unreachable(answer: _Answer) -> str:
    where = _first(r"(https?://[^/\s]+)", answer.text)
    at = f" at {where}" if where else ""
    if "dns error" in answer.debug:
        host = where.partition("://")[2].rsplit(":", 1)[0]
        return f"the name {host} is not known"
    if "InvalidCertificate" in answer.debug:
        return f"the certificate of {where} is not trusted: give its authority as client_options.root_certificate"
    if "InvalidMessage" in answer.debug or "InvalidContentType" in answer.debug:
        return f"{where} does not speak TLS"
    if "ConnectionRefused" in answer.debug:
        return f"nobody listens{at}"
    if "kind: Timeout" in answer.debug or "TimedOut" in answer.debug:
        return f"no answer in time{at}"
    return _words(answer)


def _denied(answer: _Answer, url: str) -> str:
    doing = _DOING.get(answer.method, "do this")
    said = f" ({_words(answer)})"
    if answer.code == _SIGNATURE:
        return f"the secret key for the store {url} is wrong, or the clock of this machine is far off{said}"
    if answer.code in _CREDENTIALS or answer.status == 401:
        return f"the credentials for the store {url} are not accepted: renew those of its secret{said}"
    return (
        f"the credentials for the store {url} may not {doing} there: allow reading, writing, listing and deleting{said}"
    )


def _words(answer: _Answer) -> str:
    """The store's own words, or the library's, short enough for one line."""
    if answer.code:
        return f"{answer.code}: {answer.message}"[:300] if answer.message else answer.code
    if answer.status:
        return f"HTTP {answer.status}"
    return answer.text[:300] or "it gives no reason"
