"""What may be imported: files that are really in the operator's folders and buckets, and nothing else."""

import hashlib
import os
from pathlib import Path

import obstore
import pytest
from plugins.s3 import S3Server

from abcore.specs.refusals import Problem, Refusal
from store.blobs.buckets import Bucket
from store.errors import BlobsUnusable, UnsupportedUrl
from store.imports import RANGE_BYTES, Places

MOST = 3 * RANGE_BYTES


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder that may be imported from, beside a file that may not."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "shelf-2").mkdir()
    (tmp_path / "shelf-2" / "a").write_bytes(b"secret")
    shelf = tmp_path / "a shelf"
    (shelf / "deep").mkdir(parents=True)
    (shelf / "deep" / "a").write_bytes(b"content")
    return shelf


def refused(places: Places, source: str, target: Path) -> Problem:
    with pytest.raises(Refusal) as refusal:
        places.fetch(source, target, MOST)
    assert b"secret" not in (target.read_bytes() if target.exists() else b"")
    assert refusal.value.problem.where == "source"
    return refusal.value.problem


def test_a_file_of_a_folder_is_copied_and_measured(shelf: Path, tmp_path: Path) -> None:
    (shelf / "link").symlink_to("deep")
    found = Places(f" {shelf.as_uri()} ,").fetch(f"{shelf.as_uri()}/link/a", tmp_path / "x", 7)
    assert (tmp_path / "x").read_bytes() == b"content"
    assert (found.sha256, found.size) == (hashlib.sha256(b"content").hexdigest(), 7)


@pytest.mark.parametrize(
    "source",
    [
        "{shelf}/../secret", "{shelf}/%2e%2e/secret", "{shelf}/deep/..%2f..%2fsecret", "{shelf}", "{shelf}/",
        "{shelf}-2/a",
        "{shelf}/deep/a?x=1", "{shelf}/deep//a", "{shelf}/deep/a%00", "file://host{path}/deep/a", "{path}/deep/a",
        "deep/a",
        "http://127.0.0.1{path}/deep/a", "s3://bucket-2/in/a", "s3://bucket/inside/a", "s3://bucket/in/../a",
        "s3://key:secret@bucket/in/a", "s3://bucket/in/a?endpoint=http://127.0.0.1:1", "s3://bucket/in/", "",
    ],
)  # fmt: skip
def test_what_lies_elsewhere_is_refused_by_its_address(shelf: Path, source: str) -> None:
    places = Places(f"{shelf.as_uri()},s3://bucket/in?endpoint=http://127.0.0.1:1&region=x")
    places.require(f"{shelf.as_uri()}/deep/a")
    places.require("s3://bucket/in/a")
    source = source.format(shelf=shelf.as_uri(), path=shelf.as_uri().removeprefix("file://"))
    with pytest.raises(Refusal) as refusal:
        places.require(source)
    problem = refusal.value.problem
    assert (problem.code, problem.where, problem.value) == ("import.not_allowed", "source", source)
    assert problem.allowed == (f"{shelf.as_uri()}/...", "s3://bucket/in/...")


def test_without_places_nothing_may_be_imported(shelf: Path) -> None:
    with pytest.raises(Refusal, match="it has none") as refusal:
        Places("").require(f"{shelf.as_uri()}/deep/a")
    assert refusal.value.problem.allowed == ()


@pytest.mark.parametrize(
    "address", ["/srv/data", "file:srv", "file:///", "http://host/x", "s3://k:s@bucket", "s3://b?x=1"]
)
def test_a_place_that_is_none_is_said_at_the_start(address: str) -> None:
    with pytest.raises(UnsupportedUrl):
        Places(address)


def test_links_that_lead_out_are_not_followed(shelf: Path, tmp_path: Path) -> None:
    places, at = Places(shelf.as_uri()), shelf.as_uri()
    (shelf / "out").symlink_to(tmp_path / "secret")
    (shelf / "up").symlink_to("..")
    (shelf / "twice").symlink_to("up/shelf-2")
    (shelf / "circle").symlink_to("circle")
    assert refused(places, f"{at}/out", tmp_path / "1").code == "import.outside"
    assert refused(places, f"{at}/up/secret", tmp_path / "2").code == "import.outside"
    assert refused(places, f"{at}/twice/a", tmp_path / "3").code == "import.outside"
    assert refused(places, f"{at}/circle", tmp_path / "4").code == "import.unreadable"


@pytest.mark.parametrize("swapped", ["deep", "deep/a"])
def test_a_link_that_comes_between_the_look_and_the_opening_is_not_followed(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    """A folder, or the file itself, is swapped for a link out when it was found to be none."""
    look = Path.is_relative_to

    def swap_after(path: Path, other: Path) -> bool:
        inside = look(path, other)
        (shelf / swapped).rename(shelf / "before")
        (shelf / swapped).symlink_to(tmp_path / ("shelf-2" if swapped == "deep" else "secret"))
        return inside

    monkeypatch.setattr(Path, "is_relative_to", swap_after)
    with pytest.raises(Refusal) as refusal:
        Places(shelf.as_uri()).fetch(f"{shelf.as_uri()}/deep/a", tmp_path / "x", MOST)
    assert refusal.value.problem.code in ("import.missing", "import.unreadable")
    assert not (tmp_path / "x").exists()


def test_what_is_no_file_or_not_there_or_too_large_is_refused(shelf: Path, tmp_path: Path) -> None:
    places, at = Places(shelf.as_uri()), shelf.as_uri()
    os.mkfifo(shelf / "pipe")
    with (shelf / "large").open("wb") as large:
        large.truncate(MOST + 1)
    found = {name: refused(places, f"{at}/{name}", tmp_path / name.replace("/", "_")) for name in
             ("pipe", "deep", "none", "deep/a/b", "large")}  # fmt: skip
    assert {name: problem.code for name, problem in found.items()} == {
        "pipe": "import.not_a_file",
        "deep": "import.not_a_file",
        "none": "import.missing",
        "deep/a/b": "import.missing",
        "large": "import.too_large",
    }
    assert (found["large"].value, found["large"].allowed) == (MOST + 1, (f"<= {MOST}",))


def test_a_file_of_a_bucket(s3: S3Server, s3_url: str, tmp_path: Path) -> None:
    store = Bucket.parse(s3_url).open(30.0)
    content = os.urandom(RANGE_BYTES + 5)
    obstore.put(store, "deep/a b", content)
    places = Places(s3_url)
    (name,) = places.names
    assert s3.endpoint not in name
    found = places.fetch(f"{name}deep/a%20b", tmp_path / "x", len(content))
    assert (tmp_path / "x").read_bytes() == content
    assert (found.sha256, found.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert refused(places, f"{name}none", tmp_path / "y").code == "import.missing"
    with pytest.raises(Refusal) as refusal:
        places.fetch(f"{name}deep/a%20b", tmp_path / "z", len(content) - 1)
    assert refusal.value.problem.code == "import.too_large"
    foreign = Places(s3.url("x", bucket="foreign"))
    assert refused(foreign, "s3://foreign/x/a", tmp_path / "f").code == "import.unreadable"


def test_a_file_that_is_written_anew_while_it_is_read_is_not_mixed(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Bucket.parse(s3_url).open(30.0)
    obstore.put(store, "a", bytes(2 * RANGE_BYTES))
    get = obstore.get

    def after_which_it_is_another(*args: object, **kwargs: object) -> object:
        part = get(*args, **kwargs)  # type: ignore[arg-type]
        obstore.put(store, "a", b"1" * 2 * RANGE_BYTES)
        return part

    monkeypatch.setattr(obstore, "get", after_which_it_is_another)
    places = Places(s3_url)
    with pytest.raises(BlobsUnusable):
        places.fetch(f"{places.names[0]}a", tmp_path / "x", MOST)
