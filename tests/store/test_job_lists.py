"""Lists of jobs: filtered, in each order, page by page while jobs are added."""

import pytest
from sqlalchemy import text

from abcore.specs.methods import KnowledgeDistillation
from store import job_lists, jobs
from store.errors import BadCursor
from store.leases import fail


def listed(hand, **shown):
    return job_lists.list_jobs(hand.db, hand.project, job_lists.JobFilter(**shown)).items


def test_pages_neither_repeat_nor_skip_while_jobs_are_added(hand) -> None:
    made = [hand.submit().id for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = job_lists.list_jobs(hand.db, hand.project, limit=2, cursor=cursor)
        seen += [job.id for job in page.items]
        hand.submit()
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == made[::-1]


def test_a_last_page_that_is_full_is_the_last(hand) -> None:
    for _ in range(4):
        hand.submit()
    first = job_lists.list_jobs(hand.db, hand.project, limit=2)
    second = job_lists.list_jobs(hand.db, hand.project, limit=2, cursor=first.next_cursor)
    assert (len(second.items), second.next_cursor) == (2, None)


def test_lists_are_filtered_by_state_and_kind(hand, problem) -> None:
    waiting = hand.submit(priority=-1)
    failed = hand.submit()
    fail(hand.db, hand.claim(), [problem])
    assert [job.id for job in listed(hand, states=["failed"])] == [failed.id]
    assert [job.id for job in listed(hand, states=["queued"])] == [waiting.id]
    assert [job.kind for job in listed(hand, kind="verify_dataset")] == ["verify_dataset"]


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "!!!!", "e30", "WzEsMl0", "WzEuNSwiYSJdICA", "WzEuNSwiYSIsMV0", "/" * 9]
)
def test_a_cursor_that_no_page_gave_is_refused(hand, cursor: str) -> None:
    with pytest.raises(BadCursor, match="next_cursor"):
        job_lists.list_jobs(hand.db, hand.project, cursor=cursor)


def walk(hand, **asked) -> list[str]:
    """The ids of a whole list, two a page."""
    seen: list[str] = []
    cursor = None
    while True:
        page = job_lists.list_jobs(hand.db, hand.project, limit=2, cursor=cursor, **asked)
        seen += [job.id for job in page.items]
        if (cursor := page.next_cursor) is None:
            return seen


def test_each_order_is_that_and_its_pages_fit_together(hand) -> None:
    priorities = (0, 5, -1, 5, 0)
    made = [hand.submit(priority=priority).id for priority in priorities]
    assert walk(hand, order="oldest") == made
    assert walk(hand, order="newest") == made[::-1]
    assert walk(hand, order="priority") == [made[i] for i in (3, 1, 4, 0, 2)]
    assert walk(hand, order="ended") == []
    for i in (2, 4, 1):
        jobs.request_cancel(hand.db, hand.project, made[i])
    assert walk(hand, order="ended") == [made[i] for i in (1, 4, 2)]


def test_a_cursor_belongs_to_its_order(hand) -> None:
    for _ in range(2):
        job = hand.submit()
    cursor = job_lists.list_jobs(hand.db, hand.project, limit=1).next_cursor
    (older,) = job_lists.list_jobs(hand.db, hand.project, limit=1, cursor=cursor).items
    assert older.id != job.id
    for order in ("oldest", "priority", "ended"):
        with pytest.raises(BadCursor):
            job_lists.list_jobs(hand.db, hand.project, order=order, cursor=cursor)


def test_lists_are_filtered_by_method(hand) -> None:
    ab = hand.submit()
    recipe = hand.run.recipe.model_copy(update={"method": KnowledgeDistillation()})
    kd = hand.submit(run=hand.run.model_copy(update={"recipe": recipe}))
    assert [job.id for job in listed(hand, methods=["kd"])] == [kd.id]
    assert [job.id for job in listed(hand, methods=["ab"])] == [ab.id]
    assert [job.id for job in listed(hand, methods=["ab", "kd"])] == [kd.id, ab.id]
    assert listed(hand, methods=["ofd"]) == []


@pytest.mark.parametrize(
    ("where", "order", "index"),
    [
        ("", "created_at DESC, id DESC", "project_id_kind_created_at_id"),
        ("", "priority DESC, created_at DESC, id DESC", "project_id_kind_priority_created_at_id"),
        ("AND ended_at IS NOT NULL", "ended_at DESC, id DESC", "project_id_kind_ended_at_id"),
        ("AND method = 'ab'", "created_at DESC, id DESC", "project_id_kind_method_created_at_id"),
        ("AND state = 'failed'", "created_at DESC, id DESC", "project_id_kind_state_created_at_id"),
    ],
)
def test_each_list_has_an_index_that_sorts_it(hand, where: str, order: str, index: str) -> None:
    if hand.db.url.get_backend_name() != "sqlite":
        pytest.skip("PostgreSQL would rather scan a table of so few rows")
    query = (
        f"SELECT id FROM jobs WHERE project_id = 'p' AND kind = 'distill' {where} ORDER BY {order} LIMIT 20"
    )
    with hand.db.read() as session:
        plan = " ".join(row.detail for row in session.execute(text(f"EXPLAIN QUERY PLAN {query}")))
    assert f"ix_jobs_{index}" in plan
    assert "TEMP B-TREE" not in plan, "it is sorted anew"
