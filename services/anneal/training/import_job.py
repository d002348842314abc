"""The body of the job that imports a base model, run in a process of its own."""

from __future__ import annotations

import shutil

from anneal.kit.jobs.context import JobContext
from anneal.training import importing
from anneal.training.domain.errors import TrainingRefused
from anneal.training.errors import refusal_of
from anneal.training.model_fields import resource_fields
from anneal.v1 import model_pb2
from anneal.v1 import training_service_pb2 as pb


def import_model(ctx: JobContext, request: pb.ImportModelRequest) -> model_pb2.Model:
    """Fetch a base model's files, check them, and store them.

    Raises:
        Refusal: the source may not be read, does not give the model, or the model is not fit.
    """
    fetched = importing.fetch(ctx, request)
    ctx.check()
    ctx.progress(0, None, "files", "checking")

    from anneal.training.describing import describe_model
    from anneal.training.domain.served import check_folder
    from anneal.training.giving import decode_chat, give
    from anneal.training.planning import device_of

    device = device_of(ctx.options["engine_device"])
    try:
        check_folder(fetched.folder, device)
        for line in give(fetched.folder, decode_chat(request.chat)):
            ctx.log(line)
        made = describe_model(fetched.folder)
    except TrainingRefused as error:
        raise refusal_of(error) from error
    ctx.check()
    ctx.progress(0, None, "files", "storing")
    digest = ctx.store.put_tree(fetched.folder)
    shutil.rmtree(fetched.folder)
    return model_pb2.Model(
        name=f"{request.parent}/models/{request.model_id}",
        digest=digest,
        architecture=made["architecture"],
        parameter_count=made["parameter_count"],
        context_length=made["context_length"],
        origin=fetched.origin,
        quantization=fetched.quantization,
        source_digest=fetched.source_digest,
        **resource_fields(made),
    )
