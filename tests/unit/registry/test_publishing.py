from __future__ import annotations

import math
from dataclasses import replace

import pytest

from anneal.kit.errors import Invalid
from anneal.registry.domain.errors import (
    BaseModelMismatch,
    BenchmarkEmpty,
    ManifestMissing,
    ParityMissing,
    TargetMismatch,
)
from anneal.registry.domain.publishing import (
    Parity,
    check_base,
    check_kind,
    check_parity,
    check_rows,
    check_same_base,
    check_shape,
    check_splits,
    check_target,
)

PASSED = Parity(
    passed=True,
    sample_count=8,
    token_count=372,
    token_ids_equal=True,
    max_logprob_difference=1e-5,
    tolerance=1e-5,
    dtype="float32",
)
IN_BFLOAT16 = replace(
    PASSED,
    dtype="bfloat16",
    max_logprob_difference=0.7,
    tolerance=1.6,
    rms_logprob_difference=0.09,
    rms_tolerance=0.2,
    effect_difference=-0.02,
    effect_tolerance=0.03,
    effect_resolution=0.03,
)


def test_a_difference_at_the_tolerance_passes() -> None:
    check_parity(PASSED, "a")
    check_parity(IN_BFLOAT16, "a")
    check_parity(
        replace(IN_BFLOAT16, dtype="float16", max_logprob_difference=0.1, tolerance=0.2, rms_tolerance=0.1), "a"
    )


@pytest.mark.parametrize(
    ("parity", "fault"),
    [
        (None, "no parity certificate"),
        (replace(PASSED, passed=False), "did not pass"),
        (replace(PASSED, sample_count=0), "compared nothing"),
        (replace(PASSED, token_count=0), "compared nothing"),
        (replace(PASSED, token_ids_equal=False), "other token ids"),
        (replace(PASSED, max_logprob_difference=1.1e-5), "differ by"),
        (replace(PASSED, max_logprob_difference=math.nan), "differ by"),
        (replace(PASSED, max_logprob_difference=-1.0), "differ by"),
        (replace(PASSED, max_logprob_difference=math.inf, tolerance=math.inf), "differ by"),
        (replace(PASSED, tolerance=math.nan), "differ by"),
        (replace(PASSED, tolerance=0.5), "allows 0.5 nats"),
        (replace(PASSED, dtype=""), "no number format"),
        (replace(PASSED, dtype="float8"), "in float8"),
        (replace(PASSED, rms_logprob_difference=0.1, rms_tolerance=1e-5), "root mean square is 0.1"),
        (replace(PASSED, dtype="bfloat16"), "lacks the root mean square"),
        (replace(IN_BFLOAT16, tolerance=100.0), "allows 100.0 nats"),
        (replace(IN_BFLOAT16, rms_tolerance=3.0), "0.5 at most"),
        (replace(IN_BFLOAT16, rms_logprob_difference=math.nan), "root mean square is nan"),
        (replace(IN_BFLOAT16, effect_difference=-0.5), "effect is -0.5"),
        (replace(IN_BFLOAT16, effect_difference=-0.5, effect_tolerance=0.6), "0.1 at most"),
        (replace(IN_BFLOAT16, effect_difference=None), "lacks the effect"),
        (replace(IN_BFLOAT16, effect_resolution=0.2), "resolution is 0.2"),
        (replace(IN_BFLOAT16, effect_resolution=None), "lacks the effect's resolution"),
    ],
)
def test_without_proof_nothing_is_published(parity: Parity | None, fault: str) -> None:
    with pytest.raises(ParityMissing) as caught:
        check_parity(parity, "a")
    assert fault in caught.value.facts["fault"]


def test_every_fault_of_a_shape_is_named() -> None:
    check_shape(1, 0.5, ["q_proj"], "adapter_version")
    with pytest.raises(Invalid) as caught:
        check_shape(0, math.nan, [], "adapter_version")
    assert [path for path, _ in caught.value.violations] == [
        "adapter_version.rank",
        "adapter_version.alpha",
        "adapter_version.target_modules",
    ]


def test_the_base_model_is_the_one_trained_on() -> None:
    check_base("a", "m", "sha256:1", "sha256:1")


@pytest.mark.parametrize("real", [None, "sha256:2"])
def test_another_base_model_or_none_is_refused(real: str | None) -> None:
    with pytest.raises(BaseModelMismatch):
        check_base("a", "m", "sha256:1", real)


def test_a_canary_runs_over_the_same_base() -> None:
    check_same_base("sha256:1", "sha256:1")
    with pytest.raises(BaseModelMismatch):
        check_same_base("sha256:1", "sha256:2")


def test_the_kind_is_the_manifests_and_the_familys() -> None:
    check_kind("document", "document", "document", "kind")
    check_kind("document", "", "document", "kind")
    with pytest.raises(Invalid, match="the manifest holds"):
        check_kind("document", "document", "conversation", "kind")
    with pytest.raises(Invalid, match="every version"):
        check_kind("document", "conversation", "document", "kind")


def test_splits_are_what_the_files_hold() -> None:
    check_splits("sha256:1", {"train": 2, "test": 0}, {"train": 2})
    with pytest.raises(ManifestMissing):
        check_splits("sha256:1", {"train": 2}, {"train": 1, "test": 1})


def test_a_benchmark_has_rows() -> None:
    assert check_rows("b", "test", 1) == 1
    with pytest.raises(BenchmarkEmpty):
        check_rows("b", "test", 0)


def test_an_evaluation_judged_what_its_target_is() -> None:
    check_target("t", ("1", "m"), ("1", "m"))
    for said in (("2", "m"), ("1", "n")):
        with pytest.raises(TargetMismatch):
            check_target("t", said, ("1", "m"))
