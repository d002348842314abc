"""The comparison of a trained adapter with serving, in the number format that serving computes in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from anneal.kit.jobs.context import JobContext
from anneal.kit.rpc.waiting import ServingUnavailable
from anneal.training.adapters.finished import Finished
from anneal.training.order import RunOrder
from anneal.training.parity import ExpectationsMissing, certify, serving_scorer
from anneal.v1 import adapter_pb2


def compare(
    ctx: JobContext,
    finished: Finished,
    *,
    base_name: str,
    base_digest: str,
    adapter_digest: str,
    run: Callable[[RunOrder], dict[str, Any]],
    keep: Callable[[Finished], None],
) -> adapter_pb2.ParityCertificate:
    """Compare the adapter's answers with serving's; serving is waited for, whatever it lacks.

    Training computes expectations in float32, and on a GPU in bfloat16. Where serving turns out to compute in another
    number format, a worker computes them in that one, and they are kept beside the weights.

    Args:
        ctx: of the job.
        finished: the training that has ended.
        base_name: resource name of the base model.
        base_digest: its digest.
        adapter_digest: of the adapter's tree.
        run: runs an order on one worker.
        keep: stores the training again, with more expectations than before.

    Raises:
        ParityFailed: the answers differ.
        EffectTooSmall: the adapter changes too little to tell.
        ServingDtypeUnknown: serving's number format is unknown.
        ServingUnavailable: serving did not answer in time.
        RpcError: serving refused the adapter.
    """
    score = serving_scorer(
        ctx.channel("serving", base_name, wait_s=0),
        base_digest=base_digest,
        adapter_digest=adapter_digest,
        wait=ctx.wait("serving", float(ctx.options["parity_deadline_s"])),
    )

    def certificate(result: dict[str, Any]) -> adapter_pb2.ParityCertificate:
        ctx.check()
        return certify(
            result["parity"],
            score,
            base_dtype=result["base_dtype"],
            tolerance=ctx.options["parity_tolerance"],
            rms_tolerance=ctx.options["parity_rms_tolerance"],
        )

    try:
        try:
            return certificate(finished.result)
        except ExpectationsMissing as missing:
            ctx.log(f"serving computes in {missing.dtype}: what it must answer is computed in it as well")
            order = _run_order(ctx, finished, base_digest, missing.dtype)
            fuller = replace(finished, result={**finished.result, "parity": run(order)["parity"]})
            keep(fuller)
            return certificate(fuller.result)
    except ServingUnavailable as away:
        raise ServingUnavailable(
            f"the adapter could not be compared with serving: {away}. Its weights are stored: send the same request "
            "again when serving answers, and it is compared without being trained again",
            service="serving",
            weights=adapter_digest,
        ) from away


def _run_order(ctx: JobContext, finished: Finished, base_digest: str, dtype: str) -> RunOrder:
    """What a worker is told to compute the expectations in a number format."""
    folder = ctx.scratch / f"expect-{dtype}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parity.json").write_text(json.dumps(finished.result["parity"]))
    return RunOrder(
        spec=finished.result["spec"],
        base_folder=str(ctx.store.materialize(base_digest)),
        base_name=base_digest,
        train_files=[],
        folder=str(folder),
        fingerprint="",
        expect=dtype,
        artifact=str(ctx.store.materialize(finished.weights)),
    )


def describe_certificate(made: adapter_pb2.ParityCertificate) -> str:
    """A certificate in one line, for the job's log."""
    return (
        f"parity with serving in {made.dtype}: logprobs differ by at most {made.max_logprob_difference:.2e} nats "
        f"(root mean square {made.rms_logprob_difference:.2e}, effect {made.effect_difference:+.2%}) over "
        f"{made.token_count} tokens"
    )
