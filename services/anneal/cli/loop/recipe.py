"""The recipe of a run: what goes in, what is made of it, and what it must show. Checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from google.protobuf import json_format
from google.protobuf.message import Message
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from anneal.cli.base_models import Given, Source, model_id_of, package_folder, source_of
from anneal.kit import names
from anneal.kit.errors import Invalid
from anneal.training.domain.model_files import TEMPLATES, URI_SCHEMES
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import evaluation_pb2 as evaluation
from anneal.v1 import training_service_pb2 as training

M = TypeVar("M", bound=Message)


class RecipeUnreadable(Exception):
    """The recipe cannot be used; the text says where and why."""


def _id(value: str) -> str:
    try:
        return names.check_id(value, "id")
    except Invalid as error:
        raise ValueError(str(error)) from None


Id = Annotated[str, AfterValidator(_id)]


class Part(BaseModel):
    """Base of all parts: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseModelSource(Part):
    """The base model, from one of five places.

    Attributes:
        id: id that it gets in the project.
        folder: a folder of this machine, or a GGUF file in one, relative to the recipe's; it is uploaded.
        package: an installed Python package that ships a model; its folder is uploaded.
        hub_id: `owner/name` or `owner/name@revision` of the Hub, which the server fetches.
        uri: `s3://bucket/prefix`, `gs://...` or `az://...`, which the server reads with its own credentials.
        server_folder: a folder that an operator has mounted on the server and allowed (`training.model_folders`).
        chat_template: name of one of Anneal's chat templates, for a model that has none.
        chat_template_file: file with a chat template as Jinja text, relative to the recipe's folder.
        chat_template_choice: which of several chat templates that the tokenizer has.
        chat_template_kwargs: variables of the chat template, such as `{enable_thinking: false}`.
        special_tokens: texts that become tokens; only the method `full` trains their embeddings.
    """

    id: Id
    folder: Path | None = None
    package: str = ""
    hub_id: str = ""
    uri: str = ""
    server_folder: str = ""
    chat_template: str = ""
    chat_template_file: Path | None = None
    chat_template_choice: str = ""
    chat_template_kwargs: dict[str, Any] = {}
    special_tokens: list[str] = []

    @model_validator(mode="after")
    def _one_template(self) -> BaseModelSource:
        if sum(map(bool, (self.chat_template, self.chat_template_file, self.chat_template_choice))) > 1:
            raise ValueError("give one of `chat_template`, `chat_template_file` and `chat_template_choice`")
        if self.chat_template and self.chat_template not in TEMPLATES:
            raise ValueError(f"`chat_template` is none of {', '.join(TEMPLATES)}")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> BaseModelSource:
        if sum(map(bool, (self.folder, self.package, self.hub_id, self.uri, self.server_folder))) != 1:
            raise ValueError("give exactly one of `folder`, `package`, `hub_id`, `uri` and `server_folder`")
        if self.uri and not self.uri.startswith(URI_SCHEMES):
            raise ValueError(f"`uri` begins with none of {', '.join(URI_SCHEMES)}")
        if self.server_folder and not self.server_folder.startswith("/"):
            raise ValueError("`server_folder` is the whole path of a folder of the server")
        return self


class Chunking(Part):
    """How documents are cut, as `anneal.v1.Chunking` has it; lengths are characters."""

    max_characters: int = Field(ge=16)
    min_characters: int = Field(default=0, ge=0)
    overlap_characters: int = Field(default=0, ge=0)


class Documents(Part):
    """The documents: files beside the recipe, which of their members count, and how they are cut, if they are."""

    dataset: Id
    files: list[Path] = Field(min_length=1)
    include: list[str] = []
    license: str = ""
    chunking: Chunking | None = None


class Task(Part):
    """One task: how its rows are made, and how answers to it are scored.

    Attributes:
        name: id of its datasets, benchmark, adapter and deployment.
        template: the task for the `template` generator, or the name of one in `tasks_file`.
        steps: curation steps of this task only, after the shared ones.
        metrics: keys of the METRICS table.
        max_tokens: longest answer in tokens.
        answer_format: `text` or `json`.
        policy: rules on this task's own benchmark; `benchmark` is filled in.
        training: settings that differ from the shared ones.
    """

    name: Id
    template: str | dict[str, Any]
    steps: list[dict[str, Any]] = []
    metrics: list[str] = Field(min_length=1)
    max_tokens: int = Field(default=64, ge=1)
    answer_format: str = "text"
    policy: list[dict[str, Any]] = Field(min_length=1)
    training: dict[str, Any] = {}


class Ask(Part):
    """What each deployment is asked at the end.

    Attributes:
        questions: test rows that are asked in every way there is.
        unseen: most test rows that the base model and the deployment are both asked, to compare; 0 asks none.
    """

    questions: int = Field(default=2, ge=1)
    unseen: int = Field(default=0, ge=0, le=500)


class Recipe(Part):
    """A whole run.

    Attributes:
        title: heading of the report.
        project: where everything gets its name.
        base_model: what is trained on.
        documents: what goes in.
        tasks_file: YAML file of task templates beside the recipe.
        tasks: what is made of the documents.
        curation: steps for every task, before its own; they end with the split.
        decontamination: settings of the step that compares training rows with every task's test rows.
        training: `anneal.v1.TrainingSpec` for every task.
        min_scored_rows: fewest scored rows for a verdict.
        evaluation_rows: most rows per benchmark; 0 means all.
        ask: what the deployments are asked at the end.
    """

    title: str
    project: Id
    base_model: BaseModelSource
    documents: Documents
    tasks_file: Path | None = None
    tasks: list[Task] = Field(min_length=1)
    curation: list[dict[str, Any]] = Field(min_length=1)
    decontamination: dict[str, Any] = {}
    training: dict[str, Any] = {}
    min_scored_rows: int = 30
    evaluation_rows: int = Field(default=0, ge=0)
    ask: Ask = Ask()


class Loaded:
    """A recipe with its folder, its files checked and its parts as messages."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.folder = folder
        templates = _templates(self.path(recipe.tasks_file)) if recipe.tasks_file else {}
        self._templates = {task.name: _template_of(task, templates) for task in recipe.tasks}
        said = recipe.base_model
        for file in [*recipe.documents.files, *(path for path in (said.folder, said.chat_template_file) if path)]:
            if not self.path(file).exists():
                raise RecipeUnreadable(f"{self.path(file)} does not exist (named in the recipe)")
        if recipe.base_model.package:
            package_folder(recipe.base_model.package)
        for task in recipe.tasks:
            self.training_spec(task)
            self.policy(task, "projects/p/benchmarks/b")
            self.steps(task)

    @property
    def base_model(self) -> Source:
        """Where the base model comes from."""
        said = self.recipe.base_model
        folder = self.path(said.folder) if said.folder else None
        if said.package:
            folder = package_folder(said.package)
        return Source(folder=folder, hub_id=said.hub_id, uri=said.uri, server_folder=said.server_folder)

    @property
    def given(self) -> Given:
        """What the base model is given beside its files."""
        said = self.recipe.base_model
        file = said.chat_template_file
        return Given(
            template_name=said.chat_template,
            template_text=self.path(file).read_text(encoding="utf-8") if file else "",
            template_choice=said.chat_template_choice,
            template_kwargs=said.chat_template_kwargs,
            special_tokens=tuple(said.special_tokens),
        )

    def path(self, path: Path) -> Path:
        """A path of the recipe, which is relative to the recipe's own folder."""
        return (self.folder / path).resolve()

    def template(self, task: Task) -> dict[str, Any]:
        """The task for the `template` generator."""
        return self._templates[task.name]

    def training_spec(self, task: Task) -> training.TrainingSpec:
        """How to train a task's adapter."""
        return _message(
            {**self.recipe.training, **task.training}, training.TrainingSpec(), f"training of task {task.name}"
        )

    def policy(self, task: Task, benchmark: str) -> evaluation.Policy:
        """What a task's adapter must show."""
        rules = [{**rule, "benchmark": benchmark} for rule in task.policy]
        value = {"rules": rules, "min_scored_rows": self.recipe.min_scored_rows}
        return _message(value, evaluation.Policy(), f"policy of task {task.name}")

    def steps(self, task: Task) -> list[curation.CurationStep]:
        """The curation steps of a task."""
        where = f"curation of task {task.name}"
        return [_message(step, curation.CurationStep(), where) for step in [*task.steps, *self.recipe.curation]]


def _message(value: dict[str, Any], message: M, where: str) -> M:
    try:
        return json_format.ParseDict(value, message)
    except json_format.ParseError as error:
        raise RecipeUnreadable(f"{where}: {error}") from None


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeUnreadable(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeUnreadable(f"{path} is not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise RecipeUnreadable(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _templates(path: Path) -> dict[str, dict[str, Any]]:
    value = _yaml(path)
    try:
        return {str(task["name"]): task for task in value["tasks"]}
    except (KeyError, TypeError):
        raise RecipeUnreadable(f"{path} has no list `tasks` whose entries have a `name`") from None


def _template_of(task: Task, templates: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if isinstance(task.template, dict):
        return task.template
    if task.template not in templates:
        known = ", ".join(sorted(templates)) or "none"
        raise RecipeUnreadable(f"task {task.name}: there is no template {task.template!r} (there are: {known})")
    return templates[task.template]


def load(path: Path, base_model: str = "") -> Loaded:
    """Read and check a recipe.

    Args:
        path: the recipe.
        base_model: what takes the place of the recipe's base model, as `source_of` reads it; empty keeps that.

    Raises:
        RecipeUnreadable: it cannot be read, or names files or templates that are not there.
        BaseModelUnclear: `base_model` is nothing that a model can be imported from.
        pydantic.ValidationError: a key is unknown, missing or of the wrong type.
    """
    value = _yaml(path)
    if not isinstance(value, dict):
        raise RecipeUnreadable(f"{path} is not a mapping of keys to values")
    recipe = Recipe(**value)
    if base_model:
        recipe = recipe.model_copy(update={"base_model": _source_of(base_model)})
    return Loaded(recipe, path.resolve().parent)


def _source_of(text: str) -> BaseModelSource:
    source = source_of(text)
    return BaseModelSource(
        id=model_id_of(source),
        folder=source.folder,
        hub_id=source.hub_id,
        uri=source.uri,
        server_folder=source.server_folder,
    )
