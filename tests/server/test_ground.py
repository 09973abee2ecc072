"""What `up` stands on: a free port, a key of one's own, a database at the right schema, and the doctor's eye."""

import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from plugins.s3 import S3Server

from server.access import local_key
from server.address import free_port, url_of
from server.console import Console
from server.doctor import examine
from server.errors import CannotStart
from server.migrating import migrate
from server.up import up
from store import schema
from store.database import Database
from store.keys import authenticate, list_keys, revoke_key
from store.models import DEFAULT_PROJECT
from store.settings import Settings


@pytest.fixture
def taken() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_a_taken_port_is_named_with_what_to_do(taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    with pytest.raises(CannotStart, match=rf"127\.0\.0\.1:{port}.*--port \(0 picks a free one\)"):
        free_port("127.0.0.1", port)


def test_patience_waits_for_a_port(taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    threading.Timer(0.3, taken.close).start()
    assert free_port("127.0.0.1", port, patience_seconds=20) == port


def test_zero_is_any_free_port_and_a_strange_host_an_error() -> None:
    assert free_port("127.0.0.1", 0) > 1024
    with pytest.raises(CannotStart, match=r"cannot listen on 192\.0\.2\.1"):
        free_port("192.0.2.1", 0)


def test_the_address_can_be_reached_from_here() -> None:
    assert url_of("0.0.0.0", 8420) == "http://127.0.0.1:8420"
    assert url_of("::", 8420) == "http://[::1]:8420"
    assert url_of("10.0.0.7", 8420) == "http://10.0.0.7:8420"


def test_the_key_is_made_once_for_its_user_and_anew_when_revoked(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    schema.upgrade(settings.database_url)
    db = Database(settings.database_url)
    first = local_key(db, tmp_path)
    assert local_key(db, tmp_path) == first
    assert stat.S_IMODE((tmp_path / "api-key").stat().st_mode) == 0o600
    revoke_key(db, DEFAULT_PROJECT, authenticate(db, first).key_id)
    second = local_key(db, tmp_path)
    assert second != first
    assert authenticate(db, second).project_id == DEFAULT_PROJECT
    assert [key.revoked_at is None for key in list_keys(db, DEFAULT_PROJECT)] == [False, True]
    db.dispose()


def test_a_database_out_of_reach_is_named_without_its_password() -> None:
    with pytest.raises(CannotStart) as caught:
        migrate("postgresql://someone:hunter2@127.0.0.1:1/abdistill")
    assert "127.0.0.1:1" in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_address_of_no_known_database_is_refused() -> None:
    with pytest.raises(CannotStart, match=r"ABDISTILL_DATABASE_URL.*'mysql'"):
        migrate("mysql://127.0.0.1/abdistill")


@pytest.mark.parametrize(
    ("setting", "told"), [("blobs_url", "ftp://somewhere/else"), ("import_from", "s3:/nameless")]
)
def test_an_address_that_is_none_is_told_before_anything_starts(
    tmp_path: Path, setting: str, told: str
) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path / "data", setting: told})
    with pytest.raises(CannotStart, match=rf"^ABDISTILL_{setting.upper()}: .*{told}"):
        up(settings, Console())
    assert not (tmp_path / "data").exists()


def test_the_doctor_finds_a_sound_machine_sound(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    schema.upgrade(settings.database_url)
    found = {finding.name: finding for finding in examine(settings)}
    names = {
        "python",
        "torch",
        "exports",
        "sqlite",
        "database",
        "broker",
        "blobs",
        "imports",
        "disk",
        "sandbox",
    }
    assert set(found) == names
    assert [name for name, finding in found.items() if finding.level == "problem"] == []
    assert schema.head() in found["database"].text


def test_the_doctor_says_what_to_do_about_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        data_dir=tmp_path,
        database_url="postgresql://a:b@127.0.0.1:1/c",
        broker_url="redis://127.0.0.1:1/0",
        blobs_url="ftp://somewhere/else",
        import_from="/no/address",
        device="cuda",
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = {finding.name: finding for finding in examine(settings)}
    assert {name: finding.level for name, finding in found.items() if finding.level != "ok"} == {
        "torch": "problem",
        "database": "problem",
        "broker": "warning",
        "blobs": "problem",
        "imports": "problem",
    }
    for name in ("torch", "database", "broker", "blobs", "imports"):
        assert "ABDISTILL_" in found[name].advice


def test_the_doctor_tells_which_exports_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    (found,) = (finding for finding in examine(Settings(data_dir=tmp_path)) if finding.name == "exports")
    assert (found.level, "without onnxscript" in found.text) == ("warning", True)
    assert "abdistill-server[export]" in found.advice


def test_the_doctor_asks_the_bucket(tmp_path: Path, s3: S3Server) -> None:
    settings = Settings(data_dir=tmp_path, blobs_url=s3.url(bucket="none"))
    (found,) = (finding for finding in examine(settings) if finding.name == "blobs")
    assert found.level == "problem"
    assert "s3://none" in found.text
