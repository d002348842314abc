"""Names and pages: what is accepted, what is refused, and which field the refusal names."""

from __future__ import annotations

import pytest

from anneal.kit import names, pages
from anneal.kit.digests import canonical_json, digest_of, hex_of, version_id
from anneal.kit.errors import Invalid
from anneal.kit.store import safe_relative_path


def test_a_name_gives_its_ids() -> None:
    found = names.parse("projects/p/adapters/kind/versions/0123456789ab", "adapter_version")
    assert found == {"project": "p", "adapter": "kind", "version": "0123456789ab"}
    assert names.parent_of("projects/p/datasets/d") == "projects/p"
    assert names.project_of("projects/p/datasets/d/versions/latest") == "projects/p"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "projects/p/datasets/",
        "projects/p/datasets/UPPER",
        "projects/p/datasets/a/b",
        "projects/../datasets/d",
        "projects/p/models/d",
        "projects/p/datasets/-d",
        "projects/p/datasets/" + "d" * 64,
        "projects/p/datasets/d\n",
    ],
)
def test_a_name_outside_its_pattern_is_refused_with_the_field(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        names.parse(name, "dataset", "spec.dataset")
    assert refused.value.violations[0][0] == "spec.dataset"


@pytest.mark.parametrize("version", ["0123456789a", "0123456789abc", "ABCDEF012345", "newest"])
def test_a_version_is_twelve_hex_digits_or_latest(version: str) -> None:
    names.parse("projects/p/datasets/d/versions/latest", "dataset_version")
    with pytest.raises(Invalid):
        names.parse(f"projects/p/datasets/d/versions/{version}", "dataset_version")


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a\\b", "a\0b", "a/.", "x" * 1025])
def test_a_path_that_leaves_its_root_is_refused(path: str) -> None:
    assert safe_relative_path("library/shutil.html") == "library/shutil.html"
    with pytest.raises(Invalid):
        safe_relative_path(path)


def test_a_token_goes_on_after_its_cursor_and_fits_one_list_only() -> None:
    first = pages.page(0, "", {"parent": "projects/p"})
    assert (first.size, first.after) == (50, None)
    token = first.token(["a", 1])
    assert pages.page(5000, token, {"parent": "projects/p"}) == pages.Page(1000, ["a", 1], first.scope)
    for bad in (token, "%%%", "AAAA", token[:-3]):
        with pytest.raises(Invalid, match="page_token"):
            pages.page(1, bad, {"parent": "projects/q"})
    with pytest.raises(Invalid, match="page_size"):
        pages.page(-1, "")


def test_equal_values_have_equal_digests() -> None:
    assert digest_of({"b": 1, "a": "ü"}) == digest_of({"a": "ü", "b": 1})
    assert canonical_json({"a": "\ud800"}) == b'{"a":"\\ud800"}'
    assert version_id("sha256:" + "ab" * 32) == "abababababab"
    for bad in ("", "ab" * 32, "sha256:" + "AB" * 32, "sha256:" + "ab" * 31):
        with pytest.raises(Invalid):
            hex_of(bad)
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of(float("nan"))
