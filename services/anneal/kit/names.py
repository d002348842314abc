"""Resource names: `projects/{project}/datasets/{dataset}/versions/{version}` and their kin."""

from __future__ import annotations

import re
from collections.abc import Sequence

from anneal.kit.errors import Invalid

_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"[0-9a-f]{12}|latest")

PATTERNS = {
    "project": "projects/{project}",
    "dataset": "projects/{project}/datasets/{dataset}",
    "dataset_version": "projects/{project}/datasets/{dataset}/versions/{version}",
    "model": "projects/{project}/models/{model}",
    "adapter": "projects/{project}/adapters/{adapter}",
    "adapter_version": "projects/{project}/adapters/{adapter}/versions/{version}",
    "benchmark": "projects/{project}/benchmarks/{benchmark}",
    "evaluation": "projects/{project}/evaluations/{evaluation}",
    "deployment": "projects/{project}/deployments/{deployment}",
    "operation": "projects/{project}/operations/{operation}",
    "upload": "projects/{project}/uploads/{upload}",
}


def check_id(value: str, field: str) -> str:
    """The id itself, when it may stand in a name.

    Raises:
        Invalid: it is not 1-63 lower-case letters, digits and dashes, with a letter or digit at both ends.
    """
    if not _ID.fullmatch(value):
        raise Invalid.field(
            field,
            f"{value[:80]!r} is not 1-63 lower-case letters, digits and dashes, starting and ending without a dash",
        )
    return value


def parse(name: str, kind: str, field: str = "name") -> dict[str, str]:
    """The ids in a resource name, by the variable of its pattern.

    Args:
        name: such as `projects/p/datasets/d`.
        kind: a key of `PATTERNS`.
        field: the request's field, for the error.

    Raises:
        Invalid: the name does not follow the pattern.
    """
    pattern = PATTERNS[kind].split("/")
    parts = name.split("/")
    ids: dict[str, str] = {}
    if len(parts) == len(pattern):
        for want, got in zip(pattern, parts, strict=True):
            if not want.startswith("{"):
                if want != got:
                    break
                continue
            rule = _VERSION if want == "{version}" else _ID
            if not rule.fullmatch(got):
                break
            ids[want[1:-1]] = got
        else:
            return ids
    raise Invalid.field(field, f"{name[:200]!r} does not follow `{PATTERNS[kind]}`")


def parse_any(name: str, kinds: Sequence[str], field: str = "name") -> tuple[str, dict[str, str]]:
    """The kind a name has among `kinds`, and its ids.

    Raises:
        Invalid: it follows none of the patterns.
    """
    for kind in kinds:
        try:
            return kind, parse(name, kind, field)
        except Invalid:
            continue
    wanted = ", ".join(f"`{PATTERNS[kind]}`" for kind in kinds)
    raise Invalid.field(field, f"{name[:200]!r} follows none of {wanted}")


def parent_of(name: str) -> str:
    """The name two segments up: `projects/p/datasets/d` -> `projects/p`."""
    return name.rsplit("/", 2)[0]


def last_id(name: str) -> str:
    """The last segment of a name."""
    return name.rsplit("/", 1)[-1]


def project_of(name: str) -> str:
    """`projects/{project}` of any resource name."""
    return "/".join(name.split("/")[:2])
