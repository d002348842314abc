"""The loop itself: documents -> rows -> curated rows -> plan -> adapters -> scores -> deployments -> answers."""

from __future__ import annotations

from datetime import UTC, datetime

from anneal.cli.client import Client
from anneal.cli.gateway import Gateway
from anneal.cli.loop import ask, encode, lineage, unseen
from anneal.cli.loop.data import Data
from anneal.cli.loop.deployments import Deployments
from anneal.cli.loop.desk import Desk
from anneal.cli.loop.models import Models
from anneal.cli.loop.recipe import Loaded, Task
from anneal.cli.output import Output
from anneal.cli.report import model
from anneal.v1 import deployment_pb2, model_pb2


class Loop:
    """Runs a recipe against a running Anneal, filling a report on the way."""

    def __init__(self, client: Client, http: Gateway, loaded: Loaded, output: Output, command: str) -> None:
        self._http = http
        self.report = model.Report(
            title=loaded.recipe.title,
            started=datetime.now(UTC),
            command=command,
            settings=loaded.recipe.model_dump(mode="json"),
            environment=encode.environment(),
        )
        self._desk = Desk(client=client, loaded=loaded, output=output, report=self.report)
        self._data = Data(self._desk)
        self._models = Models(self._desk, self._data)
        self._deployments = Deployments(self._desk, self._data, self._models)

    def run(self) -> None:
        """Run every step.

        Raises:
            OperationFailed: a job failed.
            LoopFailed: an adapter did not pass its policy, or the gate did not hold.
        """
        tasks = self._desk.recipe.tasks
        base = self._models.import_base()
        self._data.run()
        self._models.train(base)
        self._deployments.check_gate(tasks[0])
        self._models.evaluate(base)
        deployed = {task.name: self._deployments.deploy(task) for task in tasks}
        self._ask(deployed)
        for task in tasks:
            self._compare(task, deployed[task.name], base)
        first = self.report.questions[0]
        with self._desk.step("trace lineage") as step:
            name = tasks[0].name
            adapter = self._models.adapters[name]
            self.report.lineage = lineage.trace(self._desk.client, first, deployed[name], adapter)
            step.detail = f"{len(self.report.lineage)} hops from an answer to its document"

    def _ask(self, deployed: dict[str, deployment_pb2.Deployment]) -> None:
        for task in self._desk.recipe.tasks:
            with self._desk.step(f"ask {task.name}") as step:
                asker = ask.Asker(self._desk.client, self._http, deployed[task.name], task.max_tokens)
                rows = ask.questions(
                    self._desk.client,
                    self._data.versions[task.name].name,
                    "test",
                    self._desk.recipe.ask.questions,
                )
                answered = []
                for row in rows:
                    answered.append(asker(task.name, row))
                    self.report.questions.append(answered[-1])  # the report of a run that fails has the first ones
                answers = [answer for question in answered for answer in question.answers]
                step.detail = f"{len(answered)} questions, {len(answers)} answers in 4 ways"
            for question in answered:
                self._show(question)

    def _compare(self, task: Task, deployed: deployment_pb2.Deployment, base: model_pb2.Model) -> None:
        most = self._desk.recipe.ask.unseen
        if not most:
            return
        with self._desk.step(f"compare {task.name}") as step:
            version = self._data.versions[task.name].name
            compared = unseen.compare(self._desk.client, task, deployed, base, version, most)
            if compared is None:
                step.detail = f"nothing to count: {unseen.JUDGED_BY} is none of its metrics"
                return
            self.report.comparisons.append(compared)
            step.detail = (
                f"{len(compared.rows)} unseen questions: {compared.adapter_right} answered right by the adapter, "
                f"{compared.base_right} by the base model"
            )

    def _show(self, question: model.Question) -> None:
        line = self._desk.output.line
        line(f"    question:  {_short(question.question)}")
        line(f"    reference: {_short(question.reference)}")
        told = {answer.text for answer in question.answers}
        if len(told) == 1:
            line(f"    answer:    {_short(told.pop())}  (the same over gRPC and HTTP, streamed and not)")
        else:
            for answer in question.answers:
                line(f"    {answer.via}: {_short(answer.text)}")


def _short(text: str, limit: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
