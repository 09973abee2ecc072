"""Settings: from the environment, with defaults that work, refused when they cannot."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from store.blobs import open_blobs
from store.database import parse_url
from store.errors import StoreError
from store.ids import new_id
from store.settings import Settings, get_settings


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in os.environ:
        if name.startswith("ABDISTILL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_all_that_is_kept_is_in_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ABDISTILL_DATA_DIR", "here #1")
    settings = Settings()
    folder = tmp_path / "here #1"
    assert settings.data_dir == folder
    assert parse_url(settings.database_url).database == str(folder / "abdistill.db")
    assert open_blobs(settings.blobs_url).root == folder / "blobs"
    assert settings.workspace_dir == folder / "workspaces"
    assert settings.broker_url is None


@pytest.mark.parametrize(
    ("share", "blobs_url", "shares"),
    [
        ("auto", "s3://bucket/prefix", True),
        ("auto", "", False),
        ("on", "", True),
        ("off", "s3://bucket/prefix", False),
    ],
)
def test_answers_are_shared_where_files_are_in_a_bucket_or_as_it_is_said(
    share: str, blobs_url: str, shares: bool
) -> None:
    assert Settings(share_answers=share, blobs_url=blobs_url).shares_answers == shares


def test_each_part_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {
        "database_url": "postgresql://u:p@h/d",
        "blobs_url": "file:///blobs",
        "workspace_dir": "/scratch",
        "broker_url": "redis://h/0",
    }
    for name, value in wanted.items():
        monkeypatch.setenv(f"ABDISTILL_{name.upper()}", value)
    settings = Settings()
    assert {name: str(getattr(settings, name)) for name in wanted} == wanted


def test_a_lease_outlives_two_lost_heartbeats() -> None:
    with pytest.raises(ValidationError, match="at most 20"):
        Settings(lease_seconds=60, heartbeat_seconds=21)
    assert Settings(lease_seconds=60, heartbeat_seconds=20).abandon_seconds == 45


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_a_process_reads_its_settings_once(monkeypatch: pytest.MonkeyPatch) -> None:
    get_settings.cache_clear()
    first = get_settings()
    monkeypatch.setenv("ABDISTILL_PORT", "1")
    assert get_settings() is first
    get_settings.cache_clear()
    assert get_settings().port == 1
    get_settings.cache_clear()


def test_ids_say_their_kind_and_are_never_the_same() -> None:
    ids = {new_id("job") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"job_[0-9A-Z]{26}", id_) for id_ in ids)


def test_every_error_has_a_code_and_a_message_of_its_own() -> None:
    def below(error: type[StoreError]) -> list[type[StoreError]]:
        return [error, *(leaf for child in error.__subclasses__() for leaf in below(child))]

    errors = below(StoreError)
    assert len({error.code for error in errors}) == len(errors)
    assert all(error.__doc__ for error in errors)
    assert str(StoreError()) == "The store could not do what was asked."
