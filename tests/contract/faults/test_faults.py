"""Every RPC under every failure of what the services stand on: a code, a reason and what to do, never INTERNAL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from google.longrunning import operations_pb2

from anneal.kit.rpc import probes, readiness, server
from tests.architecture.contract import rpcs
from tests.contract.faults.world import ROUTES, Call, Installation, Outcome, calls, running
from tests.fixtures import faulty_s3
from tests.fixtures.faulty_s3 import FaultyS3
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.s3 import Bucket

pytestmark = [pytest.mark.s3, pytest.mark.postgres, pytest.mark.asyncio(loop_scope="module")]
DOWN, NOT_YET = "UNAVAILABLE", "FAILED_PRECONDITION"
Ended = dict[str, Outcome]


class Case(NamedTuple):
    """A failure.

    Attributes:
        name: for the test's id.
        code: that calls which meet it end with.
        reasons: one of which they say.
        meets: calls that must meet it; others may.
    """

    name: str
    code: str
    reasons: set[str]
    meets: set[str]


STORE = {"RegistryService.ReadRows", "IngestionService.ImportDataset", "CurationService.GetContaminationReport"}
STORE |= {"SynthesisService.PreviewSynthesis", "TrainingService.PlanTraining", "AdapterService.LoadAdapter"}
STORE |= {"InferenceService.Chat", "EvaluationService.CompareModels", "/v1/chat/completions", "/v1/completions"}
DATABASE = {"RegistryService.GetModel", "RegistryService.CreateDataset", "Operations.GetOperation"}
DATABASE |= {"JobHostService.Heartbeat", "JobService.WatchJob", "CurationService.CurateDataset", "/v1/models"}
REGISTRY = {"CurationService.CurateDataset", "TrainingService.PlanTraining", "InferenceService.Chat", "/v1/models"}
REGISTRY |= {"EvaluationService.EvaluateModel", "SynthesisService.SynthesizeDataset", "/v1/chat/completions"}
CASES = [
    Case("bucket missing", NOT_YET, {"STORE_BUCKET_MISSING"}, STORE),
    Case("access denied", NOT_YET, {"STORE_ACCESS_DENIED"}, STORE),
    Case("read only", NOT_YET, {"STORE_ACCESS_DENIED"}, {"IngestionService.UploadDocuments"}),
    Case("store full", NOT_YET, {"STORE_FULL"}, {"IngestionService.UploadDocuments"}),
    Case("clock skewed", NOT_YET, {"STORE_CLOCK_SKEWED"}, STORE),
    Case("throttled", DOWN, {"STORE_THROTTLED"}, STORE),
    Case("store broken", DOWN, {"STORE_FAILED"}, STORE),
    Case("store away", DOWN, {"STORE_UNREACHABLE"}, STORE),
    Case("database away", DOWN, {"DATABASE_UNREACHABLE"}, DATABASE),
    Case("tables missing", NOT_YET, {"DATABASE_TABLES_MISSING"}, DATABASE),
    Case("account locked", NOT_YET, {"DATABASE_ACCESS_DENIED"}, DATABASE),
    Case("registry away", DOWN, {"SERVICE_UNREACHABLE"}, REGISTRY),
    Case("serving away", DOWN, {"SERVICE_UNREACHABLE"}, {"/v1/chat/completions", "/v1/completions"}),
]
FAULTS = {
    "bucket missing": faulty_s3.MISSING_BUCKET,
    "access denied": faulty_s3.DENIED,
    "read only": faulty_s3.READ_ONLY,
    "store full": faulty_s3.FULL,
    "clock skewed": faulty_s3.SKEWED,
    "throttled": faulty_s3.THROTTLED,
    "store broken": faulty_s3.BROKEN,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(
    tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str, postgres_server: PostgresServer
) -> AsyncIterator[Installation]:
    name = "faults"
    bucket = Bucket(endpoint=s3_endpoint, name=name)
    faulty_s3.make_bucket(bucket)
    with pytest.MonkeyPatch.context() as patch, FaultyS3(bucket).running() as s3:
        patch.setattr(readiness, "FIRST_PAUSE_S", 0.05)
        patch.setattr(readiness, "LONGEST_PAUSE_S", 0.1)
        patch.setattr(probes, "SUSPECT_PAUSE_S", 0.05)
        patch.setattr(server, "STORE_EVERY_S", 0.5)
        patch.setattr(server, "DATABASE_EVERY_S", 0.5)
        async with running(tmp_path_factory.mktemp("faults"), s3, postgres_server) as made:
            yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def usual(installation: Installation) -> Ended:
    """How every call ends when nothing is wrong. What the first one makes is there for all others."""
    await everything(installation)
    return await everything(installation)


async def everything(installation: Installation) -> Ended:
    """Send every request, and say how each ended."""
    wanted = calls(installation.names)
    outcomes = await asyncio.gather(*(installation.ask(call) for call in wanted))
    routes = await asyncio.gather(*(asyncio.to_thread(installation.get, route) for route in ROUTES))
    return {**dict(zip(map(name_of, wanted), outcomes, strict=True)), **dict(zip(ROUTES, routes, strict=True))}


def name_of(call: Call) -> str:
    """Such as `RegistryService.GetModel`."""
    return f"{call.service.rpartition('.')[2]}.{call.method}"


@contextmanager
def failing(case: Case, installation: Installation, postgres: PostgresServer) -> Iterator[None]:
    """The failure, until the end of the block."""
    account = installation.hosts[0].settings.sql_url("jobs").rsplit("/", 1)[1]
    sql: dict[str, tuple[str, str]] = {
        "tables missing": ("ALTER SCHEMA public RENAME TO away", "ALTER SCHEMA away RENAME TO public"),
        "account locked": (f'ALTER ROLE "{account}" NOLOGIN', f'ALTER ROLE "{account}" LOGIN'),
    }
    relays: dict[str, Callable[[], Any]] = {
        "store away": installation.store.down,
        "database away": installation.database.down,
        "registry away": installation.registry.down,
        "serving away": installation.serving.down,
    }
    if case.name in FAULTS:
        installation.s3.fault = FAULTS[case.name]
        yield
        installation.s3.fault = None
    elif case.name in relays:
        with relays[case.name]():
            yield
    else:
        before, after = sql[case.name]
        postgres.run_sql(before, account)
        postgres.run_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{account}'")
        yield
        postgres.run_sql(after, account)


async def test_every_rpc_is_in_the_walk(installation: Installation) -> None:
    walked = sorted(name_of(call) for call in calls(replace(installation.names)))
    operations = operations_pb2.DESCRIPTOR.services_by_name["Operations"].methods
    assert walked == sorted(
        [*(f"{rpc.service}.{rpc.name}" for rpc in rpcs()), *(f"Operations.{method.name}" for method in operations)]
    )


async def test_the_usual_answers_are_worth_something(usual: Ended) -> None:
    """Most requests succeed, and none is refused for its form: it would never reach what fails."""
    refused = {name: one.kind for name, one in usual.items() if one.code not in ("OK", "200")}
    assert len(refused) < len(usual) / 2
    assert usual["IngestionService.GetUpload"].code == "OK"
    assert not {name for name, (code, _) in refused.items() if code in ("INTERNAL", "UNKNOWN", "UNIMPLEMENTED", "500")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_every_call_names_the_cause(
    installation: Installation, usual: Ended, postgres_server: PostgresServer, case: Case
) -> None:
    with failing(case, installation, postgres_server):
        ended = await everything(installation)
    met = {name for name, one in ended.items() if one.kind != usual[name].kind}
    wrong = {name: ended[name] for name in met if not is_of(ended[name], case)}
    assert wrong == {}
    assert case.meets - met == set()
    await settled(installation, usual)


def is_of(outcome: Outcome, case: Case) -> bool:
    """Whether an outcome is one of this failure: its code, one of its reasons, one line, and when to come back."""
    is_http = outcome.code.isdigit()
    codes = {"503"} if is_http else {case.code}
    reasons = {reason.lower() for reason in case.reasons} if is_http else case.reasons
    waits = is_http or case.code == DOWN
    return (
        outcome.code in codes
        and outcome.reason in reasons
        and outcome.waits == waits
        and len(outcome.text) > 20
        and "\n" not in outcome.text
    )


async def settled(installation: Installation, usual: Ended) -> None:
    """Wait until every call ends as it does when nothing is wrong, and every process is ready again."""
    deadline = time.monotonic() + 30
    while True:
        ended = await everything(installation)
        others = {name: one for name, one in ended.items() if one.kind != usual[name].kind}
        ready = [host.readiness.ready() for host in installation.hosts]
        if not others and all(well for well, _ in ready):
            return
        bugs = {name: one for name, one in others.items() if one.code in ("INTERNAL", "UNKNOWN", "500")}
        assert bugs == {}
        assert time.monotonic() < deadline, (others, ready)
        await asyncio.sleep(0.1)
