"""What teachers answered, from workspace to workspace."""

import os
import threading
from pathlib import Path

from worker.answer_cache import AnswerCache


def workspace(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(name.encode() * 4)
    return folder


def test_what_one_job_made_the_next_of_its_group_has(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache", 1000)
    cache.adopt("g", workspace(tmp_path / "first", "signs-a", ".signs-b.17"))
    for group, expected in (("g", ["signs-a"]), ("h", [])):
        target = tmp_path / group
        cache.lend(group, target)
        assert [path.name for path in target.iterdir()] == expected
    lent = tmp_path / "g" / "signs-a"
    assert lent.read_bytes() == b"signs-a" * 4
    assert lent.stat().st_mode & 0o777 == 0o444


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache", 1000)
    cache.adopt("g", workspace(tmp_path / "first", "signs-a"))
    late = workspace(tmp_path / "late")
    (late / "signs-a").write_bytes(b"other")
    cache.adopt("g", late)
    cache.lend("g", tmp_path / "target")
    assert (tmp_path / "target" / "signs-a").read_bytes() == b"signs-a" * 4


def test_nothing_but_files_of_the_folder_itself_is_taken(tmp_path: Path) -> None:
    """A child may have been taken over: its links lead nowhere."""
    cache = AnswerCache(tmp_path / "cache", 1000)
    outside = workspace(tmp_path / "outside", "secret")
    inside = workspace(tmp_path / "inside")
    (inside / "signs-a").symlink_to(outside / "secret")
    (inside / "folder").mkdir()
    cache.adopt("g", inside)
    (tmp_path / "linked").symlink_to(outside)
    cache.adopt("g", tmp_path / "linked")
    cache.adopt("g", tmp_path / "absent")
    cache.lend("g", tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []
    assert (outside / "secret").exists()


def test_the_least_recently_lent_goes_first(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache", 10)
    for number, name in enumerate(("aa", "bb")):
        cache.adopt(name, workspace(tmp_path / name, name[0]))  # 4 bytes each
        os.utime(tmp_path / "cache" / name / name[0], (number, number))
    cache.lend("aa", tmp_path / "held")
    cache.adopt("cc", workspace(tmp_path / "cc", "c"))
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["aa", "cc"]


def test_two_that_made_the_same_leave_it_once(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache", 1_000_000)
    names = [f"signs-{number}" for number in range(50)]
    folders = [workspace(tmp_path / str(number), *names) for number in range(4)]
    threads = [threading.Thread(target=cache.adopt, args=("g", folder)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.lend("g", tmp_path / "target")
    assert {path.name: path.read_bytes() for path in (tmp_path / "target").iterdir()} == {
        name: name.encode() * 4 for name in names
    }


def test_a_cache_of_no_size_keeps_nothing(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache", 0)
    cache.adopt("g", workspace(tmp_path / "first", "signs-a"))
    assert list((tmp_path / "cache").iterdir()) == []
