"""The protos as protoc reads them, comments included."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet

from tests.architecture.repository import ROOT

OPERATION = ".google.longrunning.Operation"
# Field numbers in descriptor.proto: the path of a comment is made of them.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM = 2, 3, 4
ENUM_VALUE = 2
SERVICE_METHOD = 2


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of the contract.

    Attributes:
        service: name of its service, without the package.
        name: its name.
        comment: what stands above it.
        long: whether it answers with an operation.
    """

    service: str
    name: str
    comment: str
    long: bool

    @property
    def reasons(self) -> set[str]:
        """The reasons its comment says it refuses with."""
        return set(re.findall(r"[A-Z_]+/([A-Z][A-Z0-9_]+)", self.comment))


@cache
def descriptors() -> tuple[FileDescriptorProto, ...]:
    """Every proto file of the package, with its comments."""
    files = sorted(str(file.relative_to(ROOT / "protos")) for file in (ROOT / "protos").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "set"
        include = ROOT / "build" / "third_party_protos"
        script = ROOT / "deploy" / "local" / "protos.py"
        subprocess.run([sys.executable, script, "include"], check=True, capture_output=True)
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}", f"-I{include}"]
        command += ["--include_source_info", f"--descriptor_set_out={out}", *files]
        subprocess.run(command, check=True, capture_output=True)
        return tuple(FileDescriptorSet.FromString(out.read_bytes()).file)


def comments_of(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """The comment above each element, by the element's path."""
    return {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}


def message_elements(
    message: DescriptorProto, path: tuple[int, ...], name: str
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A message, its fields, and what is nested in it, each with its path; map entries are protoc's own."""
    if message.options.map_entry:
        return
    yield name, path
    for index, field in enumerate(message.field):
        yield f"{name}.{field.name}", (*path, MESSAGE_FIELD, index)
    for index, nested in enumerate(message.nested_type):
        yield from message_elements(nested, (*path, MESSAGE_NESTED, index), f"{name}.{nested.name}")
    for index, enum in enumerate(message.enum_type):
        yield from enum_elements(enum, (*path, MESSAGE_ENUM, index), f"{name}.{enum.name}")


def enum_elements(enum: EnumDescriptorProto, path: tuple[int, ...], name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """An enum and its values, each with its path."""
    yield name, path
    for index, value in enumerate(enum.value):
        yield f"{name}.{value.name}", (*path, ENUM_VALUE, index)


def elements(file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Everything a reader may look up in a proto file, each with the path of its comment."""
    for index, message in enumerate(file.message_type):
        yield from message_elements(message, (FILE_MESSAGE, index), message.name)
    for index, enum in enumerate(file.enum_type):
        yield from enum_elements(enum, (FILE_ENUM, index), enum.name)
    for index, service in enumerate(file.service):
        yield service.name, (FILE_SERVICE, index)
        for number, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (FILE_SERVICE, index, SERVICE_METHOD, number)


@cache
def rpcs() -> tuple[Rpc, ...]:
    """Every method of the contract."""
    found = []
    for file in descriptors():
        comments = comments_of(file)
        for index, service in enumerate(file.service):
            for number, method in enumerate(service.method):
                comment = comments.get((FILE_SERVICE, index, SERVICE_METHOD, number), "")
                found.append(Rpc(service.name, method.name, comment, method.output_type == OPERATION))
    return tuple(found)
