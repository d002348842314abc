"""What people read: errors as one line with what was wrong, where and what to do."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import json_format
from pydantic import BaseModel, ConfigDict, ValidationError

from anneal.cli.client import OperationFailed
from anneal.cli.failures import explain
from anneal.cli.output import Output
from anneal.kit.errors import Busy, Invalid, Missing
from anneal.kit.rpc.status import encode_refusal, internal_status
from anneal.v1 import dataset_pb2, training_service_pb2


class Call(grpc.RpcError):
    """A failed call, as grpc hands it out."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        self._code, self._text = code, text

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._text

    def trailing_metadata(self) -> tuple[Any, ...]:
        return ()


class Strict(BaseModel):
    """A recipe's part."""

    model_config = ConfigDict(extra="forbid")
    rank: int


def failed(status: object) -> OperationFailed:
    operation = operations_pb2.Operation(name="projects/p/operations/train-1", done=True)
    operation.error.CopyFrom(status)
    return OperationFailed(operation)


def test_a_refusal_names_its_reason_and_every_field() -> None:
    line = explain(Invalid("two things are wrong", violations=[("spec.rank", "is 0"), ("spec.alpha", "is negative")]))
    assert line == "two things are wrong; spec.rank: is 0; spec.alpha: is negative (INVALID_REQUEST)"
    assert explain(Invalid.field("spec.rank", "is 0")) == "spec.rank: is 0 (INVALID_REQUEST)"
    assert explain(Busy("full", retry_after_s=1.5)) == "full (RESOURCE_EXHAUSTED); try again in 1.5 s"


def test_a_server_that_is_away_is_told_with_the_way_out() -> None:
    line = explain(Call(grpc.StatusCode.UNAVAILABLE, "connection refused"))
    assert line.startswith("no server answers (connection refused)")
    assert "anneal up" in line


def test_a_failed_job_names_the_job_and_where_its_log_is() -> None:
    assert explain(failed(encode_refusal(Missing("there is no such thing")))) == (
        "projects/p/operations/train-1 failed: there is no such thing (RESOURCE_MISSING)"
    )
    line = explain(failed(internal_status("the job failed with KeyError: 'x'")))
    assert "logs/train-1" in line


def test_wrong_files_name_the_place() -> None:
    with pytest.raises(ValidationError) as unknown:
        Strict.model_validate({"rank": 1, "surprise": 2})
    assert explain(unknown.value) == "surprise: Extra inputs are not permitted"
    with pytest.raises(json_format.ParseError) as wrong:
        json_format.ParseDict({"lora": {"rank": "many"}}, training_service_pb2.TrainingSpec())
    assert "rank" in explain(wrong.value)
    assert explain(FileNotFoundError(2, "No such file or directory", "a.yaml")) == "No such file or directory: a.yaml"


def test_json_is_all_that_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    output.line("for people")
    output.message(dataset_pb2.Dataset(name="projects/p/datasets/d"))
    assert json.loads(capsys.readouterr().out)["name"] == "projects/p/datasets/d"
