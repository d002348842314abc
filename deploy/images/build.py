"""Builds Anneal's images with docker, podman or buildah, whichever is there. Standard library only.

Packages are fetched first, by this machine's pip with whatever configuration it has, and handed to the build as a
folder: nothing of that configuration is known inside, and eight images fetch nothing twice.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from deploy.local.setup import (  # noqa: E402
    PYPI_TORCH,
    PYPI_TORCH_WORDS,
    TORCH_INDEX,
    torch_requirement,
    with_pypi_torch,
)

DOCKERFILE = ROOT / "deploy" / "images" / "Dockerfile"
ENVS = ROOT / "deploy" / "envs"
WHEELS = ROOT / "build" / "wheels"
APT = ROOT / "build" / "apt"
PUBLIC_BASE = "docker.io/library/python:3.11-slim-bookworm"
OWN_BASE = "localhost/anneal/base:bookworm"
"""What `make base-image` makes; it is taken when it is there."""
LIGHT = ("registry", "ingestion", "synthesis", "curation", "evaluation", "gateway")
CPU = (*LIGHT, "training-cpu", "serving-cpu", "standalone")
CUDA = ("training-cuda", "serving-cuda")
FOR_TESTS = ("test-s3", "test-postgres")
LOCKED = (*CPU, *CUDA, "test-s3")
"""What has a lock of its name in deploy/envs."""
BUILDERS = ("docker", "podman", "buildah")
LABEL = "org.opencontainers.image"


class Stop(Exception):
    """The images cannot be built; the message is the one line the user reads."""


def say(text: str) -> None:
    """Print one line at once, also into a pipe."""
    print(f"images: {text}", flush=True)


def output_of(*command: str) -> str | None:
    """What a command prints, or None where it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is built, by its commit.

    Attributes:
        version: of the distribution.
        revision: the commit; `-dirty` where files differ from it.
        epoch: the commit's time, in seconds; every timestamp in an image is this one.
    """

    version: str
    revision: str
    epoch: int

    @classmethod
    def read(cls) -> Source:
        """Ask pyproject.toml and git; outside of a git checkout `SOURCE_DATE_EPOCH` says the time."""
        version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        revision = output_of("git", "rev-parse", "HEAD") or "unknown"
        if output_of("git", "status", "--porcelain", "--untracked-files=no"):
            revision += "-dirty"
        told = os.environ.get("SOURCE_DATE_EPOCH") or output_of("git", "log", "-1", "--format=%ct") or "0"
        return cls(version=version, revision=revision, epoch=int(told))


def image_name(target: str, prefix: str, version: str) -> str:
    """`anneal/registry:0.1.0`; where there are flavours, the tag names them: `anneal/training:0.1.0-cpu`."""
    service, _, flavour = target.partition("-")
    return f"{prefix}{service}:{version}{'-' + flavour if flavour else ''}"


def command_for(
    tool: str, target: str, name: str, source: Source, base: str, contexts: Mapping[str, Path], *, clean: bool = False
) -> list[str]:
    """The command that builds one image.

    Args:
        tool: docker, podman or buildah.
        target: the Dockerfile's stage.
        name: of the image.
        source: what is built.
        base: the image it stands on.
        contexts: folders that take the place of the Dockerfile's empty stages.
        clean: use nothing that was built before.
    """
    labels = {
        "created": datetime.fromtimestamp(source.epoch, UTC).isoformat().replace("+00:00", "Z"),
        "revision": source.revision,
        "version": source.version,
        "licenses": "Apache-2.0",
        "vendor": "Anneal",
        "base.name": base,
    }
    if url := os.environ.get("ANNEAL_SOURCE_URL"):
        labels["source"] = url
    options = [
        *("--file", str(DOCKERFILE), "--target", target),
        *("--build-arg", f"BASE={base}", "--build-arg", f"SOURCE_DATE_EPOCH={source.epoch}"),
        *(word for key, value in labels.items() for word in ("--label", f"{LABEL}.{key}={value}")),
    ]
    for stage, folder in contexts.items():
        options += ["--build-context", f"{stage}={folder}"]
    if clean:
        options.append("--no-cache")
    if tool == "docker":
        stamped = f"type=docker,name={name},rewrite-timestamp=true"
        return ["docker", "buildx", "build", *options, "--output", stamped, str(ROOT)]
    return [tool, "build", "--layers", *options, "--timestamp", str(source.epoch), "--tag", name, str(ROOT)]


def find_builder() -> str:
    """The first of docker, podman and buildah that can build here, or the one `ANNEAL_BUILDER` names.

    Raises:
        Stop: there is none.
    """
    wanted = os.environ.get("ANNEAL_BUILDER")
    if wanted and wanted not in BUILDERS:
        raise Stop(f"ANNEAL_BUILDER is {wanted}; it may be {', '.join(BUILDERS)}")
    found = []
    for tool in (wanted,) if wanted else BUILDERS:
        if shutil.which(tool) is None:
            continue
        found.append(tool)
        if tool != "docker" or (output_of("docker", "info") is not None and output_of("docker", "buildx", "version")):
            return tool
    if "docker" in found:
        raise Stop("docker is here, and its daemon or its buildx is not: start it, or install podman or buildah")
    missing = f"{wanted} is not installed" if wanted else "none of docker, podman and buildah is installed"
    raise Stop(f"{missing} (on Debian: apt install buildah)")


def choose_base(tool: str) -> str:
    """The base image: Python's own, unless `make base-image` has made one here."""
    if tool != "docker" and output_of(tool, "images", "--quiet", OWN_BASE):
        return OWN_BASE
    return PUBLIC_BASE


def find_pip() -> list[str]:
    """The pip of a Python 3.11, which fetches what fits the images.

    Raises:
        Stop: there is none.
    """
    code = "import pip, sys; sys.exit(sys.version_info[:2] != (3, 11))"
    for python in (str(ROOT / ".venv" / "bin" / "python"), "python3.11", "python3"):
        if output_of(python, "-c", code) is not None:
            return [python, "-m", "pip"]
    raise Stop("Python 3.11 with pip is needed to fetch packages (or say --no-fetch, and pip fetches inside the build)")


def fetch(pip: Sequence[str], lock: str) -> Path:
    """Fetch a lock's packages into a folder; what lies there is not fetched again.

    Raises:
        Stop: one cannot be fetched.
    """
    # Apart: beside the CPU build of torch, pip would not look at CUDA's.
    folder = WHEELS / ("cuda" if lock.endswith("-cuda") else "cpu")
    folder.mkdir(parents=True, exist_ok=True)
    text = (ENVS / f"{lock}.txt").read_text(encoding="utf-8")
    stamp = folder / f".{lock}"
    wanted = hashlib.sha256(text.encode()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return folder
    command = [*pip, "download", "--find-links", str(folder), "--dest", str(folder)]
    if why_not([*command, "--no-index"], text) is not None:
        refusal = why_not(command, fetch_torch(command, text))
        if refusal is not None:
            raise Stop(f"the packages of deploy/envs/{lock}.txt cannot be fetched: {refusal}")
    stamp.write_text(wanted, encoding="utf-8")
    return folder


def fetch_torch(command: Sequence[str], lock: str) -> str:
    """Fetch the torch of a lock by itself, because PyPI does not carry its CPU build.

    Returns:
        The lock; with PyPI's build of torch where the CPU build is neither where pip looks nor in PyTorch's index.
    """
    if not re.search(r"^torch==\S+\+cpu", lock, re.MULTILINE):
        return lock
    entry = torch_requirement(lock)
    refusals = []
    # An index that cannot be reached is given up soon.
    for index in ([], ["--extra-index-url", TORCH_INDEX, "--retries", "1", "--timeout", "15"]):
        refusal = why_not([*command, *index], entry)
        if refusal is None:
            return lock
        refusals.append(refusal)
    name, told = entry.split()[0], f"{refusals[0]}; with {TORCH_INDEX}: {refusals[1]}"
    say(f"{name} cannot be fetched ({told}): PyPI's build, {PYPI_TORCH_WORDS}")
    return with_pypi_torch(lock, PYPI_TORCH.read_text(encoding="utf-8"))


def why_not(command: Sequence[str], lock: str) -> str | None:
    """Why pip does not do this with what a lock says; None where it has done it."""
    options = ["--quiet", "--no-input", "--progress-bar", "off", "--no-deps", "--require-hashes"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(lock)
        file.flush()
        done = subprocess.run([*command, *options, "-r", file.name], capture_output=True, text=True, check=False)
    return reason_of(done.stderr) if done.returncode else None


def reason_of(text: str) -> str:
    """The last error in what pip or a builder printed."""
    errors = re.findall(r"^(?:ERROR|Error|error): *(.*)", text, re.MULTILINE)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return str(errors[-1]) if errors else (lines[-1] if lines else "it said nothing")


def build(tool: str, target: str, arguments: argparse.Namespace, source: Source) -> str:
    """Build one image; returns its name.

    Raises:
        Stop: it cannot be built.
    """
    start = time.monotonic()
    contexts = debian_sources()
    if arguments.fetch and target in LOCKED:
        contexts["wheels"] = fetch_all(target)
    fetched = time.monotonic()
    name = image_name(target, arguments.prefix, arguments.tag or source.version)
    command = command_for(tool, target, name, source, arguments.base, contexts, clean=arguments.clean)
    log = ROOT / "build" / "images" / f"{target}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        told = reason_of(log.read_text(encoding="utf-8", errors="replace"))
        raise Stop(f"{target} was not built: {told} (all of it: {log.relative_to(ROOT)})")
    size = (output_of(tool, "images", "--format", "{{.Size}}", name) or "?").splitlines()[0]
    took = f"fetched in {fetched - start:.0f} s, built in {time.monotonic() - fetched:.0f} s"
    say(f"{name:<36} {size:>8}  {took}")
    return name


def debian_sources() -> dict[str, Path]:
    """This machine's mirrors of Debian, for the packages that a base does not bring; none where it is not Debian 12."""
    wanted = ("bookworm", "bookworm-updates", "bookworm-security")
    told = output_of(
        "apt-get", "indextargets", "Created-By: Packages", "Origin: Debian", "--format", "$(CODENAME) $(REPO_URI)"
    )
    found = dict(line.split(" ", 1) for line in (told or "").splitlines() if " " in line)
    if not all(suite in found for suite in wanted):
        return {}
    APT.mkdir(parents=True, exist_ok=True)
    lines = [f"deb {found[suite]} {suite} main\n" for suite in wanted]
    (APT / "sources.list").write_text("".join(lines), encoding="utf-8")
    return {"apt": APT}


def fetch_all(target: str) -> Path:
    """Fetch what an image holds and what builds it; returns the folder of both.

    Raises:
        Stop: something cannot be fetched.
    """
    pip = find_pip()
    tools = fetch(pip, "build")
    wheels = fetch(pip, target)
    if wheels != tools:
        copy_tools(tools, wheels)
    return wheels


def copy_tools(have: Path, into: Path) -> None:
    """Put what builds beside the wheels of another flavour."""
    for file in locked_files(have, (ENVS / "build.txt").read_text(encoding="utf-8")):
        if not (into / file.name).exists():
            shutil.copy2(file, into)


def locked_files(folder: Path, lock: str) -> Iterator[Path]:
    """The files of a folder that a lock's entries name."""
    wanted = {
        (re.sub(r"[-_.]+", "-", name).lower(), version)
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE)
    }
    for file in sorted(folder.iterdir()):
        name, _, rest = file.name.removesuffix(".tar.gz").partition("-")
        if (re.sub(r"[-_.]+", "-", name).lower(), rest.partition("-")[0]) in wanted:
            yield file


def arguments_of(words: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    """What is to be built and how."""
    parser = argparse.ArgumentParser(prog="make images", description="Build Anneal's images.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join((*CPU, *CUDA))}, cpu, cuda or all")
    parser.add_argument("--base", default=environment.get("BASE", ""), help="the base image")
    parser.add_argument("--prefix", default=environment.get("PREFIX") or "anneal/", help="before every image's name")
    parser.add_argument("--tag", default=environment.get("TAG", ""), help="instead of the version")
    parser.add_argument("--clean", action="store_true", help="use nothing that was built before")
    parser.add_argument("--no-fetch", dest="fetch", action="store_false", help="let pip fetch inside the build")
    arguments = parser.parse_args(words)
    groups = {"cpu": CPU, "cuda": CUDA, "all": (*CPU, *CUDA)}
    chosen = [target for word in arguments.targets or ["cpu"] for target in groups.get(word, (word,))]
    unknown = [target for target in chosen if target not in (*groups["all"], *FOR_TESTS)]
    if unknown:
        parser.error(f"no target {unknown[0]}; there are {', '.join((*groups['all'], *groups))}")
    arguments.targets = list(dict.fromkeys(chosen))
    return arguments


def main() -> int:
    """Build what is asked for, one after the other."""
    arguments = arguments_of(sys.argv[1:], os.environ)
    try:
        tool = find_builder()
        arguments.base = arguments.base or choose_base(tool)
        source = Source.read()
        say(f"{tool}, on {arguments.base}, {source.revision[:12]}, times {source.epoch}")
        for target in arguments.targets:
            build(tool, target, arguments, source)
    except Stop as refusal:
        print(f"images: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nimages: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
