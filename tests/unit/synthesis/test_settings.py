from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from anneal.synthesis.domain import generators
from anneal.synthesis.domain.generators import GENERATORS
from anneal.synthesis.settings import Settings


def test_teachers_are_reached_as_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANNEAL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ANNEAL_TEACHER__HOSTS", '["*.teachers.example"]')
    monkeypatch.setenv("ANNEAL_TEACHER__TIMEOUT_S", "7.5")
    monkeypatch.setenv("ANNEAL_TEACHER_KEY_MAIN", "a key is no setting")
    settings = Settings()
    assert settings.teacher.hosts == ("*.teachers.example",)
    assert settings.teacher.timeout_s == 7.5
    assert settings.teacher.attempts == 6


@pytest.mark.parametrize("name", ["ANNEAL_TEACHER__TIMEOUT_S", "ANNEAL_TEACHER__ATTEMPTS", "ANNEAL_TEACHER__COLOR"])
def test_a_wrong_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "0")
    with pytest.raises(ValidationError):
        Settings()


def test_every_file_of_the_folder_is_in_the_table() -> None:
    (folder,) = (Path(path) for path in generators.__path__)
    assert sorted(GENERATORS) == sorted(path.stem for path in folder.glob("[a-z]*.py"))
