"""The reasons for what a service stands on: those of the contract, each of the kind that its comment names."""

from __future__ import annotations

import re

from anneal.kit import sql_faults, store_faults
from anneal.kit.disk import DiskFull
from anneal.kit.errors import BackendFault, Kind, Refusal, ServiceMisconfigured, ServiceUnreachable
from anneal.kit.rpc.status import CODES
from anneal.v1 import backend_reason_pb2
from tests.architecture.repository import ROOT

PREFIX = "BACKEND_REASON_"


def refusals() -> dict[str, type[Refusal]]:
    """Every refusal of a backend, by its reason."""
    classes: list[type[Refusal]] = [DiskFull, ServiceUnreachable, ServiceMisconfigured]
    for module in (store_faults, sql_faults):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, BackendFault) and hasattr(kind, "reason"):
                classes.append(kind)
    return {kind.reason: kind for kind in classes}


def test_the_contract_lists_them_all_with_their_codes() -> None:
    text = (ROOT / "protos" / "anneal" / "v1" / "backend_reason.proto").read_text(encoding="utf-8")
    listed = re.findall(rf"// ([A-Z_]+): [^\n]+\n  {PREFIX}([A-Z_]+) = ", text)
    assert {reason: code for code, reason in listed} == {
        reason: CODES[kind.kind].name for reason, kind in refusals().items()
    }
    names = {name.removeprefix(PREFIX) for name in backend_reason_pb2.BackendReason.DESCRIPTOR.values_by_name}
    assert names - {"UNSPECIFIED"} == set(refusals())


def test_each_says_whether_waiting_helps() -> None:
    for reason, kind in refusals().items():
        assert kind.kind in (Kind.NOT_YET, Kind.DOWN), reason
        assert (kind("text").retry_after_s is not None) == (kind.kind is Kind.DOWN), reason
