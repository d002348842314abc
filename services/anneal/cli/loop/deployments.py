"""The stage of deployments: the gate refuses what has no GO, and every adapter that has one is deployed."""

from __future__ import annotations

import grpc

from anneal.cli.loop.data import Data
from anneal.cli.loop.desk import Desk, LoopFailed, only
from anneal.cli.loop.models import Models
from anneal.cli.loop.recipe import Task
from anneal.cli.report import model
from anneal.kit.rpc.status import refusal_of
from anneal.v1 import deployment_pb2
from anneal.v1 import registry_service_pb2 as registry


class GateLeaked(LoopFailed):
    """The registry deployed an adapter that has no GO."""


class Deployments:
    """Deploys adapters behind the gate."""

    def __init__(self, desk: Desk, data: Data, models: Models) -> None:
        self._desk, self._data, self._models = desk, data, models

    def _wanted(self, task: Task) -> deployment_pb2.Deployment:
        return deployment_pb2.Deployment(
            adapter_version=self._models.adapters[task.name].name,
            policy=self._desk.loaded.policy(task, self._data.benchmark(task)),
        )

    def check_gate(self, task: Task) -> None:
        """Ask for a deployment under a policy nobody was judged by: the registry must refuse."""
        wanted = self._wanted(task)
        wanted.policy.min_scored_rows += 1
        with self._desk.step("knock at the closed gate") as step:
            try:
                self._desk.client.registry.CreateDeployment(
                    registry.CreateDeploymentRequest(
                        parent=self._desk.parent,
                        deployment_id=f"{task.name}-unjudged",
                        deployment=wanted,
                        validate_only=True,
                    )
                )
            except grpc.RpcError as error:
                refusal = refusal_of(error)
                if refusal is None or refusal.reason != "GATE_CLOSED":
                    raise
                step.detail = "refused, as it must be: GATE_CLOSED"
                self._desk.report.deployments.append(
                    model.Deployment(
                        name=f"{self._desk.parent}/deployments/{task.name}-unjudged",
                        adapter_version=wanted.adapter_version,
                        refusal=f"{refusal.reason}: {refusal}",
                    )
                )
            else:
                raise GateLeaked(f"{wanted.adapter_version} was accepted for deployment without a GO for its policy")

    def deploy(self, task: Task) -> deployment_pb2.Deployment:
        """Deploy a task's adapter, or switch its deployment to it.

        Raises:
            LoopFailed: the gate is closed to it.
        """
        wanted = self._wanted(task)
        name = f"{self._desk.parent}/deployments/{task.name}"
        with self._desk.step(f"deploy {task.name}") as step:
            try:
                made = self._create_or_switch(task, name, wanted, step)
            except grpc.RpcError as error:
                refusal = refusal_of(error)
                if refusal is None:
                    raise
                text = f"{refusal.reason}: {refusal}"
                self._desk.report.deployments.append(
                    model.Deployment(name=name, adapter_version=wanted.adapter_version, refusal=text)
                )
                raise LoopFailed(f"{task.name} was not deployed: {text}") from None
            step.detail = f"admitted by {made.evaluation.rsplit('/', 1)[-1]}"
        self._desk.report.deployments.append(
            model.Deployment(
                name=made.name,
                adapter_version=made.adapter_version,
                adapter_digest=made.adapter_digest,
                evaluation=made.evaluation,
                policy_digest=made.policy_digest,
            )
        )
        return made

    def _create_or_switch(
        self, task: Task, name: str, wanted: deployment_pb2.Deployment, step: model.Step
    ) -> deployment_pb2.Deployment:
        try:
            known = self._desk.client.registry.GetDeployment(registry.GetDeploymentRequest(name=name))
        except grpc.RpcError as error:
            only(error, grpc.StatusCode.NOT_FOUND)
            return self._desk.client.registry.CreateDeployment(
                registry.CreateDeploymentRequest(parent=self._desk.parent, deployment_id=task.name, deployment=wanted)
            )
        if known.adapter_version == wanted.adapter_version and known.policy == wanted.policy:
            step.state = "skipped"
            return known
        wanted.name, wanted.etag = name, known.etag
        request = registry.UpdateDeploymentRequest(deployment=wanted)
        request.update_mask.paths.extend(["adapter_version", "policy"])
        return self._desk.client.registry.UpdateDeployment(request)
