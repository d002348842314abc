"""Commands about base models: import one from this machine, the Hub, an object store or the server's own disks."""

from __future__ import annotations

from typing import Annotated

import typer

from anneal.cli.app import Session
from anneal.cli.base_models import FORMS, Imported, import_model, source_of
from anneal.cli.output import as_dict
from anneal.cli.resources import models
from anneal.kit import names

ModelId = Annotated[str, typer.Argument(metavar="NAME", help="Id that the model gets in the project.")]
From = Annotated[str, typer.Argument(metavar="SOURCE", help=f"Where the files are: {FORMS}.")]


@models.command("import")
def import_base_model(context: typer.Context, name: ModelId, source: From) -> None:
    """Import a base model: safetensors, tokenizer, chat template; no pickles, no code.

    A folder of this machine is uploaded: checked by digest, gone on with where it was cut off, nothing sent twice. A
    URI is read by the training service's job with the credentials in its own environment. server:/FOLDER is a folder
    that an operator has mounted on the server and allowed (training.model_folders).

    The same files under the same name again change nothing; other files under that name are refused.
    """
    session: Session = context.obj
    names.check_id(name, "NAME")
    wanted = source_of(source)
    with session.output.job(f"import {name}") as watcher:
        imported = import_model(session.client(), name, wanted, watcher)
    _show(session, imported)


def _show(session: Session, imported: Imported) -> None:
    output, sent = session.output, imported.uploaded
    if output.as_json:
        output.json(
            {
                "model": as_dict(imported.model),
                "skipped": imported.skipped,
                "operation": imported.operation,
                "sent_files": list(sent.sent_files),
                "sent_bytes": sent.sent_bytes,
                "left_out": list(imported.left_out),
            }
        )
        return
    output.message(imported.model)
    for line in summary(imported):
        output.line(line)


def summary(imported: Imported) -> list[str]:
    """What an import came to, in lines for people."""
    lines, sent = [], imported.uploaded
    if imported.left_out:
        lines.append(f"left out: {', '.join(imported.left_out)}")
    if sent.files.files:
        known = len(sent.files.files) - len(sent.sent_files)
        lines.append(f"sent: {len(sent.sent_files)} files, {sent.sent_bytes:,} bytes; already there: {known} files")
    done = "unchanged, skipped" if imported.skipped else "imported"
    lines.append(f"{done}: {imported.model.name} {imported.model.digest}")
    return lines
