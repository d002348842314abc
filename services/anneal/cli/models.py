"""Commands about base models: import one from this machine, the Hub, an object store or the server's own disks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from anneal.cli.app import Session
from anneal.cli.base_models import FORMS, Given, Imported, import_model, source_of
from anneal.cli.output import as_dict
from anneal.cli.resources import models
from anneal.kit import names
from anneal.kit.errors import Invalid
from anneal.training.domain.model_files import TEMPLATES

ModelId = Annotated[str, typer.Argument(metavar="NAME", help="Id that the model gets in the project.")]
From = Annotated[str, typer.Argument(metavar="SOURCE", help=f"Where the files are: {FORMS}.")]


Template = Annotated[str, typer.Option(help=f"Chat template of Anneal's: {', '.join(TEMPLATES)}.")]
TemplateFile = Annotated[
    Path | None, typer.Option(help="File with a chat template, as Jinja text.", exists=True, dir_okay=False)
]
TemplateChoice = Annotated[str, typer.Option(help="Which of several chat templates that the tokenizer has.")]
TemplateVariable = Annotated[
    list[str] | None,
    typer.Option(help="NAME=VALUE for the chat template, such as enable_thinking=false; VALUE is JSON, else text."),
]
SpecialToken = Annotated[
    list[str] | None,
    typer.Option(help="Text that becomes a token; only method full trains its embedding. May be given several times."),
]


@models.command("import")
def import_base_model(
    context: typer.Context,
    name: ModelId,
    source: From,
    template: Template = "",
    template_file: TemplateFile = None,
    template_choice: TemplateChoice = "",
    template_variable: TemplateVariable = None,
    special_token: SpecialToken = None,
) -> None:
    """Import a base model: safetensors, tokenizer, chat template, or a GGUF file; no pickles, no code.

    A GGUF file is dequantised; the model's record and card keep its quantisation and digest.

    A folder of this machine is uploaded: checked by digest, gone on with where it was cut off, nothing sent twice. A
    URI is read by the training service's job with the credentials in its own environment. server:/FOLDER is a folder
    that an operator has mounted on the server and allowed (training.model_folders).

    What the model is given by options becomes part of its files: a chat template for a model that has none, variables
    for it, special tokens. A model without a chat template can be trained on text only.

    The same files under the same name again change nothing; other files under that name are refused.
    """
    session: Session = context.obj
    names.check_id(name, "NAME")
    wanted = source_of(source)
    if sum(map(bool, (template, template_file, template_choice))) > 1:
        raise Invalid.field("--template", "give one of --template, --template-file and --template-choice")
    given = Given(
        template_name=template,
        template_text=template_file.read_text(encoding="utf-8") if template_file else "",
        template_choice=template_choice,
        template_kwargs=dict(map(_variable, template_variable or ())),
        special_tokens=tuple(special_token or ()),
    )
    with session.output.job(f"import {name}") as watcher:
        imported = import_model(session.client(), name, wanted, watcher, given)
    _show(session, imported)


def _variable(text: str) -> tuple[str, Any]:
    """A variable and its value.

    Raises:
        Invalid: it is not `NAME=VALUE`.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise Invalid.field("--template-variable", f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


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
