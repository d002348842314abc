"""The contract is commented, served, tested, and the generated code says what it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

from google.longrunning import operations_pb2

from tests.architecture.contract import comments_of, descriptors, elements, rpcs
from tests.architecture.repository import PACKAGE, ROOT, SERVICES, source_trees


def served() -> dict[str, set[str]]:
    """Methods written by hand, by the proto service whose servicer their class extends."""
    found: dict[str, set[str]] = {}
    for tree in source_trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
                for base in bases:
                    if base.endswith("ServiceServicer") or base == "OperationsServicer":
                        found.setdefault(base.removesuffix("Servicer"), set()).update(methods)
    return found


def test_everything_has_a_comment() -> None:
    bare = [
        f"{file.name}: {name}"
        for file in descriptors()
        for comments in [comments_of(file)]
        for name, path in elements(file)
        if not comments.get(path)
    ]
    assert bare == []


def test_generated_code_is_fresh() -> None:
    command = [sys.executable, str(ROOT / "deploy" / "local" / "protos.py"), "check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rpc_is_served() -> None:
    methods = served()
    missing = [f"{rpc.service}.{rpc.name}" for rpc in rpcs() if rpc.name not in methods.get(rpc.service, set())]
    assert missing == []


def test_every_rpc_has_a_contract_test() -> None:
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests" / "contract").rglob("*.py"))
    called = set(re.findall(r"\.([A-Z]\w+)\b", tests))
    assert [f"{rpc.service}.{rpc.name}" for rpc in rpcs() if rpc.name not in called] == []
    operations = served()["Operations"] - {"__init__"}
    assert operations == {method.name for method in operations_pb2.DESCRIPTOR.services_by_name["Operations"].methods}
    assert operations - called == set()


def test_every_reason_in_the_contract_is_raised_somewhere() -> None:
    written = {
        node.value
        for tree in source_trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    unknown = [f"{rpc.service}.{rpc.name}: {reason}" for rpc in rpcs() for reason in sorted(rpc.reasons - written)]
    assert unknown == []


def test_every_reason_in_the_contract_is_met_in_a_test() -> None:
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    unmet = [f"{rpc.service}.{rpc.name}: {reason}" for rpc in rpcs() for reason in rpc.reasons if reason not in tests]
    assert sorted(unmet) == []


def test_every_service_has_its_rooms() -> None:
    rooms = ("__init__.py", "__main__.py", "settings.py", "bootstrap.py", "domain", "adapters")
    faces = {"gateway": ()}
    missing = [
        f"{service}/{room}"
        for service in SERVICES
        for room in (*rooms, *faces.get(service, ("servicer.py", "codec.py")))
        if not (PACKAGE / service / room).exists()
    ]
    assert missing == []


def test_every_service_with_long_work_keeps_it_in_jobs() -> None:
    home = {"AdapterService": "serving", "InferenceService": "serving"}
    services = {home.get(rpc.service, rpc.service.removesuffix("Service").lower()) for rpc in rpcs() if rpc.long}
    assert [service for service in sorted(services) if not (PACKAGE / service / "jobs.py").exists()] == []
