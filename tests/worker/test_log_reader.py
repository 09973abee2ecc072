"""What a child writes to its log, as its job shows it."""

from pathlib import Path

import pytest

from worker.log_reader import CHUNK_BYTES, LINE_BYTES, MOST_AT_ONCE_BYTES, LogReader
from worker.secrets import masked
from worker.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def write(workspace: Workspace, content: bytes) -> None:
    with workspace.log.open("ab") as log:
        log.write(content)


def test_a_line_is_shown_once_and_when_it_has_its_end(workspace: Workspace) -> None:
    reader = LogReader(workspace)
    assert reader.read() == []
    write(workspace, b"one\n\ntw")
    assert reader.read() == ["one\n\n"]
    assert reader.read() == []
    write(workspace, b"o\nthree")
    assert reader.read() == ["two\n"]
    assert reader.read(last=True) == ["three\n"]
    assert reader.read(last=True) == []


def test_what_would_disturb_a_terminal_is_taken_out(workspace: Workspace) -> None:
    write(workspace, b"10%\r20%\r100%\r\n\x1b[31mred\x00\xff\tend\n")
    assert LogReader(workspace).read() == ["100%\n\ufffd[31mred\ufffd\ufffd\tend\n"]


def test_lines_and_parts_are_bounded(workspace: Workspace) -> None:
    write(workspace, b"x" * (LINE_BYTES + 1234))
    reader = LogReader(workspace)
    (cut,) = reader.read()
    assert cut == "x" * LINE_BYTES + " [1,234 bytes more]\n"
    write(workspace, b"".join(b"%09d\n" % number for number in range(20_000)))
    parts = reader.read()
    assert max(map(len, parts)) <= CHUNK_BYTES
    assert "".join(parts).split() == [f"{number:09}" for number in range(20_000)]


def test_of_a_flood_the_end_is_shown_and_the_rest_told(workspace: Workspace) -> None:
    lines = [b"%09d\n" % number for number in range(150_000)]
    write(workspace, b"".join(lines))
    told, *shown = "".join(LogReader(workspace).read()).splitlines()
    assert shown[-1] == "000149999"
    left_out = 10 * int(shown[0])
    assert told == f"[{left_out:,} bytes that were written too fast are left out]"
    assert MOST_AT_ONCE_BYTES - 10 < 10 * len(shown) <= MOST_AT_ONCE_BYTES


def test_a_link_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the host's secret\n")
    workspace.log.symlink_to(tmp_path / "secret")
    assert LogReader(workspace).read(last=True) == []


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("ABDISTILL_DATABASE_URL", "postgresql://abd:pass.word-9@db/abdistill")
    written = (
        b"key abd_0123456789abcdefghij, secret wJalrXUtnFEMI/K7MDENG, word pass.word-9\n"
        b"redis://user:anything@host/0 signed by whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw==; abd_short stays\n"
    )
    assert masked(written) == (
        b"key [masked], secret [masked], word [masked]\n"
        b"redis://[masked]@host/0 signed by [masked]; abd_short stays\n"
    )
