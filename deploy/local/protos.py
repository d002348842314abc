"""Generates `services/anneal/v1` from `protos/anneal/v1`, lints the contract, and says when the two disagree.

The Google protos come from the wheel `googleapis-common-protos`. It ships one of them under a name other than the one
it registers (`google/longrunning/operations_proto.proto` for `google/longrunning/operations.proto`): importing the
wheel's name compiles and then dies at run time. So the wheel's files are first copied under their canonical names.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
PACKAGE = Path("anneal/v1")
THIRD_PARTY = ROOT / "build" / "third_party_protos"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def package_folder(module: str) -> Path:
    """Where an installed package lives, without importing it."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{module} is not installed here: run `make setup` and use its Python")
    return Path(next(iter(spec.submodule_search_locations)))


def fill_third_party() -> None:
    """Copy the Google protos under the names they register, for protoc and for buf."""
    shutil.rmtree(THIRD_PARTY, ignore_errors=True)
    for folder in ("api", "rpc", "longrunning"):
        source = package_folder("google." + folder)
        for file in sorted(source.rglob("*.proto")):
            name = file.name.replace("_proto.proto", ".proto")
            target = THIRD_PARTY / "google" / folder / file.relative_to(source).with_name(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def generate(out: Path) -> None:
    """Write messages, typed stubs and services for every proto of the package under `out`."""
    files = sorted((PROTOS / PACKAGE).glob("*.proto"))
    if not files:
        raise SystemExit(f"no proto under {(PROTOS / PACKAGE).relative_to(ROOT)}")
    bin_folder = Path(sys.executable).parent
    plugins = [f"--plugin=protoc-gen-{name}={bin_folder / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc"),
        f"--proto_path={PROTOS}",
        f"--proto_path={THIRD_PARTY}",
        f"--proto_path={package_folder('grpc_tools') / '_proto'}",
        *plugins,
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *(str(file.relative_to(PROTOS)) for file in files),
    ]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise SystemExit("protoc refused the protos: see its lines above")


def generated_files(folder: Path) -> dict[str, Path]:
    """The generated files of a folder, by name."""
    return {file.name: file for pattern in GENERATED for file in folder.glob(pattern)}


def write() -> int:
    """Replace the committed code by what the protos say now."""
    target = ROOT / "services" / PACKAGE
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = generated_files(Path(scratch) / PACKAGE)
        target.mkdir(parents=True, exist_ok=True)
        for name, file in generated_files(target).items():
            if name not in fresh:
                file.unlink()
        for name, file in fresh.items():
            if not (target / name).exists() or not filecmp.cmp(file, target / name, shallow=False):
                shutil.copyfile(file, target / name)
    print(f"protos: {len(fresh)} files in {target.relative_to(ROOT)}")
    return 0


def check() -> int:
    """Compare the committed code with what the protos say now."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = generated_files(Path(scratch) / PACKAGE)
        committed = generated_files(ROOT / "services" / PACKAGE)
        stale = sorted(
            name
            for name in fresh.keys() | committed.keys()
            if name not in fresh
            or name not in committed
            or not filecmp.cmp(fresh[name], committed[name], shallow=False)
        )
    if stale:
        print("protos: generated code is stale, run `make protos`: " + ", ".join(stale), file=sys.stderr)
        return 1
    print(f"protos: {len(fresh)} generated files are fresh")
    return 0


def lint() -> int:
    """Run buf's lint, and its breaking-change check against the last release where there is one."""
    buf = Path(sys.executable).parent / "buf"
    code = subprocess.run([buf, "lint"], cwd=ROOT, check=False).returncode
    tags = subprocess.run(
        ["git", "tag", "--list", "v*", "--sort=-v:refname"], cwd=ROOT, check=False, capture_output=True, text=True
    ).stdout.split()
    if tags:
        against = f".git#tag={tags[0]},subdir=protos"
        code |= subprocess.run([buf, "breaking", "protos", "--against", against], cwd=ROOT, check=False).returncode
    print(
        f"buf: lint {'failed' if code else 'clean'}; " + (f"breaking against {tags[0]}" if tags else "no release yet")
    )
    return code


def main() -> int:
    """Fill the include folder, then do what was asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    actions: dict[str, Callable[[], int]] = {"write": write, "check": check, "lint": lint, "include": lambda: 0}
    parser.add_argument("action", choices=actions)
    action: str = parser.parse_args().action
    fill_third_party()
    return actions[action]()


if __name__ == "__main__":
    raise SystemExit(main())
