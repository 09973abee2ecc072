"""Shared answers of teachers: each name once in a project and about a subject, and found there alone."""

from concurrent.futures import ThreadPoolExecutor

from store import references, shared_answers
from store.blobs import Blob
from store.projects import create_project


def _blob(number: int) -> Blob:
    return Blob(f"answers/{number}", f"{number:064x}", number)


def test_a_file_is_found_by_project_subject_and_name(hand) -> None:
    other = create_project(hand.db, "other").id
    for number, (project, subject) in enumerate([(hand.project, "a"), (hand.project, "b"), (other, "a")]):
        assert shared_answers.add(hand.db, project, subject, "signs", _blob(number))
        (row,) = shared_answers.find(hand.db, project, subject)
        assert (row.name, row.sha256, row.size_bytes) == ("signs", f"{number:064x}", number)
    assert shared_answers.has(hand.db, other, "a", "signs")
    assert not shared_answers.has(hand.db, other, "b", "signs")
    assert not shared_answers.has(hand.db, other, "a", "logits")
    assert list(shared_answers.find(hand.db, other, "b")) == []


def test_of_many_that_put_the_same_at_once_one_is_believed(hand) -> None:
    with ThreadPoolExecutor(8) as pool:
        blobs = [_blob(number) for number in range(8)]
        taken = list(
            pool.map(lambda blob: shared_answers.add(hand.db, hand.project, "a", "signs", blob), blobs)
        )
    assert taken.count(True) == 1
    (row,) = shared_answers.find(hand.db, hand.project, "a")
    assert row.blob_key == blobs[taken.index(True)].key
    keys = [blob.key for blob in blobs]
    assert references.referenced(hand.db, keys) == {row.blob_key}
    shared_answers.forget(hand.db, row.id)
    assert references.referenced(hand.db, keys) == set()
