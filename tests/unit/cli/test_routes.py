"""Calls find the service that they are for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2

from anneal.cli import routes as module
from anneal.cli.client import Client
from anneal.cli.routes import SERVICE_OF, Operations, Routes, parse_addresses
from anneal.kit.rpc.channels import open_channel
from anneal.v1 import job_service_pb2 as jobs

ADDRESSES = {"training": "127.0.0.1:2", "curation": "127.0.0.1:3"}
PACKAGE = Path(module.__file__).parents[1]


class FakeOperations:
    """The operations of one service; writes down what it was asked."""

    def __init__(self, *operations: operations_pb2.Operation) -> None:
        self.operations = operations
        self.asked: list[Any] = []

    def ListOperations(self, request: Any) -> operations_pb2.ListOperationsResponse:
        self.asked.append(request)
        return operations_pb2.ListOperationsResponse(operations=self.operations, next_page_token="more")

    def GetOperation(self, request: Any) -> operations_pb2.Operation:
        self.asked.append(request)
        return operations_pb2.Operation(name=request.name)


def operation(name: str, create_time: int) -> operations_pb2.Operation:
    metadata = jobs.JobMetadata()
    metadata.create_time.FromSeconds(create_time)
    made = operations_pb2.Operation(name=name)
    made.metadata.Pack(metadata)
    return made


@pytest.fixture
def routes() -> Any:
    made = Routes("127.0.0.1:1", ADDRESSES, "")
    yield made
    made.close()


def told(routes: Routes, monkeypatch: pytest.MonkeyPatch, **fakes: FakeOperations) -> Operations:
    by_channel = {routes.channel(service): fake for service, fake in fakes.items()}
    operations = Operations(routes)
    monkeypatch.setattr(operations, "_of", by_channel.__getitem__)
    return operations


def test_a_service_without_an_address_of_its_own_is_at_the_one_address(routes: Routes) -> None:
    assert routes.channel("registry") is routes.channel("serving")
    assert routes.channel("training") is not routes.channel("registry")
    assert len({id(channel) for channel in routes.with_jobs()}) == 3


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("projects/p/operations/import-model-0123456789ab", "training"),
        ("projects/p/operations/curate-0123456789ab", "curation"),
        ("projects/p/operations/import-0123456789ab", "ingestion"),
        ("projects/p/operations/of-nobody", "registry"),
    ],
)
def test_an_operations_name_says_whose_it_is(routes: Routes, name: str, service: str) -> None:
    assert routes.of_operation(name) is routes.channel(service)


def test_every_kind_of_job_is_known() -> None:
    kinds = {}
    for file in PACKAGE.glob("*/bootstrap.py"):
        for kind in re.findall(r'JobKind\(\s*name="(\w+)"', file.read_text(encoding="utf-8")):
            kinds[kind] = file.parent.name
    assert kinds == SERVICE_OF


def test_one_operation_is_asked_for_where_it_runs(routes: Routes, monkeypatch: pytest.MonkeyPatch) -> None:
    training, other = FakeOperations(), FakeOperations()
    operations = told(routes, monkeypatch, training=training, curation=other, registry=other)
    operations.GetOperation(operations_pb2.GetOperationRequest(name="projects/p/operations/train-0123456789ab"))
    assert len(training.asked) == 1
    assert other.asked == []


def test_a_list_of_a_kind_is_its_services_own_pages(routes: Routes, monkeypatch: pytest.MonkeyPatch) -> None:
    training, other = FakeOperations(operation("t", 1)), FakeOperations()
    operations = told(routes, monkeypatch, training=training, curation=other, registry=other)
    answer = operations.ListOperations(operations_pb2.ListOperationsRequest(filter="kind=train"))
    assert [each.name for each in answer.operations] == ["t"]
    assert answer.next_page_token == "more"
    assert other.asked == []


def test_a_list_of_all_is_the_newest_of_every_service_each_once(
    routes: Routes, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = operation("shared", 3)
    operations = told(
        routes,
        monkeypatch,
        training=FakeOperations(operation("new", 4), shared),
        curation=FakeOperations(shared, operation("old", 1)),
        registry=FakeOperations(operation("middle", 2)),
    )
    answer = operations.ListOperations(operations_pb2.ListOperationsRequest(page_size=3))
    assert [each.name for each in answer.operations] == ["new", "shared", "middle"]
    assert answer.next_page_token == ""


def test_addresses_are_read_as_services_read_them() -> None:
    assert parse_addresses('{"registry": "a:1"}') == {"registry": "a:1"}
    assert parse_addresses("") == {}
    for text in ("registry=a:1", '["a:1"]', '{"registry": 1}'):
        with pytest.raises(ValueError, match="no JSON object like"):
            parse_addresses(text)


def test_a_client_asks_each_service_at_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, str]] = []

    def open_one(address: str, token: str) -> grpc.Channel:
        opened.append((address, token))
        return open_channel(address, token)

    monkeypatch.setattr("anneal.cli.routes.open_channel", open_one)
    client = Client("127.0.0.1:1", token="t", addresses=ADDRESSES)
    assert client.training is not None
    assert client.registry is not None
    assert client.inference is not None
    client.close()
    assert opened == [("127.0.0.1:2", "t"), ("127.0.0.1:1", "t")]
