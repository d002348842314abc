"""Who may ask what: keys by their hash, each with its project; names within it."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from anneal.gateway.domain.errors import ModelMissing
from anneal.kit.errors import Unauthenticated

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Key:
    """An accepted key, known by the SHA-256 of its text in hex."""

    name: str
    sha256: str
    project: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        name: for logs.
        project: where short names are looked up.
        bound: whether other projects are out of reach.
    """

    name: str
    project: str
    bound: bool


def caller_of(authorization: str, keys: Sequence[Key], project: str) -> Caller:
    """Who a request comes from.

    Args:
        authorization: the header; empty when it is missing.
        keys: accepted keys; without any, everybody is let in.
        project: the project of callers without a key.

    Raises:
        Unauthenticated: there are keys, and this is none of them.
    """
    if not keys:
        return Caller("anybody", project, bound=False)
    scheme, _, key = authorization.partition(" ")
    given = hashlib.sha256(key.strip().encode()).hexdigest()
    found = [known for known in keys if hmac.compare_digest(known.sha256, given)]
    if scheme.lower() != "bearer" or not key.strip() or not found:
        raise Unauthenticated("send `Authorization: Bearer <key>` with a key this gateway knows")
    return Caller(found[0].name, found[0].project, bound=True)


def names_of(model: str, caller: Caller) -> list[str]:
    """Resource names that a `model` may mean, the most likely first.

    Raises:
        ModelMissing: it lies in a project the caller cannot reach, which is told like any unknown name.
    """
    if not model.startswith("projects/"):
        return [f"projects/{caller.project}/{kind}/{model}" for kind in ("deployments", "models")]
    if caller.bound and not model.startswith(f"projects/{caller.project}/"):
        raise ModelMissing(f"the model {model!r} does not exist", model=model)
    return [model]


def request_id_of(given: str, fresh: str) -> str:
    """The caller's own request id when it is one that can stand in a log, else a fresh one."""
    return given if _REQUEST_ID.fullmatch(given) else fresh
