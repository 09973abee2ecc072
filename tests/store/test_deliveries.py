"""The sender's side of a delivery: claimed by one at a time, tried for more than a day, never lost, never crosswise."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select, update

from store import deliveries, jobs, webhooks
from store.columns import unix_now
from store.deliveries import GONE, JITTER, RETRY_SECONDS, Claimed, Outcome
from store.errors import BadSecret, NotFound, TooManyWebhooks, WebhookDisabled
from store.models import Delivery, Webhook

DAY = 86400.0


class Hooks:
    """Webhooks, and time."""

    def __init__(self, hand) -> None:
        self.db, self.project = hand.db, hand.project

    def create(self, **fields) -> Webhook:
        fields = {"url": "https://example.com/", "events": ["job.queued"], "most": 99} | fields
        return webhooks.create(self.db, self.project, **fields)[0]

    def test(self, hook: Webhook) -> Delivery:
        return webhooks.test(self.db, self.project, hook.id)

    def claim(self, seconds: float = 60.0) -> Claimed:
        claimed = deliveries.claim(self.db, seconds)
        assert claimed is not None, "nothing is due"
        return claimed

    def idle(self) -> bool:
        return deliveries.claim(self.db, 60.0) is None

    def get(self, delivery: Delivery) -> Delivery:
        return deliveries.get(self.db, self.project, delivery.webhook_id, delivery.id)

    def let_wait_pass(self) -> None:
        with self.db.write() as session:
            session.execute(update(Delivery).values(next_attempt_at=unix_now() - 1, lease_expires_at=None))

    def redeliver(self, delivery: Delivery) -> Delivery:
        return deliveries.redeliver(self.db, self.project, delivery.webhook_id, delivery.id)


@pytest.fixture
def hooks(hand) -> Hooks:
    return Hooks(hand)


def test_what_is_due_is_claimed_once_and_recorded(hooks) -> None:
    delivery = hooks.test(hooks.create(url="https://example.com/a?b=c"))
    claimed = hooks.claim()
    assert (claimed.url, claimed.event_id, claimed.body, claimed.attempt) == (
        "https://example.com/a?b=c", delivery.event_id, delivery.body, 1,
    )  # fmt: skip
    assert hooks.idle()
    assert deliveries.record(hooks.db, claimed, Outcome(204))
    done = hooks.get(delivery)
    assert (done.state, done.response_status, done.error, done.attempts) == ("succeeded", 204, None, 1)
    assert (done.next_attempt_at, done.lease_expires_at) == (None, None)
    assert not deliveries.record(hooks.db, claimed, Outcome(500)), "it has ended"
    assert hooks.idle()


def test_failures_are_tried_again_later_and_later_for_more_than_a_day(hooks) -> None:
    delivery = hooks.test(hooks.create())
    pauses = []
    for number in range(len(RETRY_SECONDS)):
        assert deliveries.record(hooks.db, hooks.claim(), Outcome(500, "The receiver answered 500."))
        now = hooks.get(delivery)
        assert (now.state, now.attempts, now.response_status) == ("pending", number + 1, 500)
        pauses.append(now.next_attempt_at - now.attempted_at)
        assert hooks.idle(), "not before its time"
        hooks.let_wait_pass()
    assert deliveries.record(hooks.db, hooks.claim(), Outcome(None, "No answer."))
    last = hooks.get(delivery)
    assert (last.state, last.error, last.next_attempt_at) == ("failed", "No answer.", None)
    assert (last.attempts, last.response_status) == (len(RETRY_SECONDS) + 1, None)
    # A second more than the jitter, for what lies between claiming and recording on a machine that is busy.
    for pause, wanted in zip(pauses, RETRY_SECONDS, strict=True):
        assert wanted * (1 - JITTER) <= pause <= wanted * (1 + JITTER) + 60
    assert list(RETRY_SECONDS) == sorted(RETRY_SECONDS)
    assert sum(RETRY_SECONDS) * (1 - JITTER) > DAY


def test_who_asks_to_be_left_alone_is_left_alone_but_not_for_ever(hooks) -> None:
    delivery = hooks.test(hooks.create())
    for asked, least, most in ((3600.0, 3600, 3660), (1e9, DAY, DAY + 60)):
        deliveries.record(hooks.db, hooks.claim(), Outcome(503, "x", retry_after_seconds=asked))
        now = hooks.get(delivery)
        assert least <= now.next_attempt_at - now.attempted_at <= most
        hooks.let_wait_pass()


def test_pauses_differ_so_that_many_do_not_come_back_as_one(hooks) -> None:
    made = [hooks.test(hooks.create()) for _ in range(5)]
    for _ in made:
        deliveries.record(hooks.db, hooks.claim(), Outcome(500))
    pauses = {round(now.next_attempt_at - now.attempted_at, 1) for now in map(hooks.get, made)}
    assert len(pauses) > 1


def test_what_a_killed_sender_held_is_sent_by_another_under_the_same_id(hooks) -> None:
    delivery = hooks.test(hooks.create())
    lost = hooks.claim(seconds=-1)
    again = hooks.claim()
    assert (again.event_id, again.body, again.attempt) == (lost.event_id, lost.body, 2)
    assert not deliveries.record(hooks.db, lost, Outcome(500)), "its time was over"
    assert hooks.get(delivery).state == "pending"
    assert deliveries.record(hooks.db, again, Outcome(200))
    assert hooks.get(delivery).failures == 0, "being killed is nobody's failure"


def test_a_sender_that_stops_gives_back_at_once(hooks) -> None:
    hooks.test(hooks.create())
    first = hooks.claim()
    deliveries.give_back(hooks.db, first)
    assert hooks.claim().event_id == first.event_id


def test_one_webhook_is_told_one_thing_at_a_time_in_order_and_the_others_do_not_wait(hooks) -> None:
    slow, other = hooks.create(), hooks.create()
    first, second, third = hooks.test(slow), hooks.test(slow), hooks.test(other)
    claimed = hooks.claim()
    assert claimed.delivery_id == first.id
    assert hooks.claim().delivery_id == third.id
    assert hooks.idle()
    deliveries.record(hooks.db, claimed, Outcome(200))
    assert hooks.claim().delivery_id == second.id


def test_of_many_senders_each_delivery_has_one(hooks) -> None:
    made = [hooks.test(hooks.create()).id for _ in range(60)]
    gate = Barrier(6)

    def run(_number: int) -> list[str]:
        gate.wait()
        found = []
        while (claimed := deliveries.claim(hooks.db, 60.0)) is not None:
            found.append(claimed.delivery_id)
        return found

    with ThreadPoolExecutor(6) as pool:
        claimed = [id_ for part in pool.map(run, range(6)) for id_ in part]
    # A sender that met only rows that others were just taking may have gone home early; the next look finds the rest.
    while (left := deliveries.claim(hooks.db, 60.0)) is not None:
        claimed.append(left.delivery_id)
    assert sorted(claimed) == sorted(made)


def test_410_disables_the_webhook_and_what_waits_has_failed(hooks) -> None:
    hook = hooks.create()
    first, second = hooks.test(hook), hooks.test(hook)
    assert deliveries.record(hooks.db, hooks.claim(), Outcome(410, "The receiver answered 410."))
    now = webhooks.get(hooks.db, hooks.project, hook.id)
    assert (now.enabled, now.disabled_reason) == (False, GONE)
    assert [hooks.get(one).state for one in (first, second)] == ["failed", "failed"]
    assert (hooks.get(first).response_status, hooks.get(second).error) == (410, GONE)
    assert hooks.idle()
    for refused in (lambda: hooks.redeliver(second), lambda: hooks.test(hook)):
        with pytest.raises(WebhookDisabled, match=hook.id):
            refused()
    webhooks.change(hooks.db, hooks.project, hook.id, {"enabled": True})
    assert webhooks.get(hooks.db, hooks.project, hook.id).disabled_reason is None
    assert hooks.redeliver(second).state == "pending"
    assert hooks.claim().event_id == second.event_id


def test_disabling_while_a_410_arrives_and_changes_are_told_locks_nobody_out(hooks, hand) -> None:
    """Each of these takes several locks; taken crosswise, PostgreSQL would end one of them with an error."""
    for _ in range(5):
        hook = hooks.create(events=["job.queued", "job.cancelled"])
        made = [hand.submit() for _ in range(3)]
        claimed = hooks.claim()
        acts = [
            lambda claimed=claimed: deliveries.record(hooks.db, claimed, Outcome(410)),
            lambda hook=hook: webhooks.change(hooks.db, hooks.project, hook.id, {"enabled": False}),
            *(lambda job=job: jobs.request_cancel(hooks.db, hooks.project, job.id) for job in made),
            lambda hook=hook: webhooks.delete(hooks.db, hooks.project, hook.id),
        ]
        gate = Barrier(len(acts))

        def run(act, gate=gate) -> None:
            gate.wait()
            act()

        with ThreadPoolExecutor(len(acts)) as pool:
            results = [pool.submit(run, act) for act in acts]
        for result in results:
            assert result.exception() is None or isinstance(result.exception(), NotFound)
        assert all(hand.get(job).state == "cancelled" for job in made)
        assert hooks.idle()


def test_redelivery_sends_whatever_had_become_of_it_with_all_retries_before_it(hooks) -> None:
    delivery = hooks.test(hooks.create())
    for _ in range(len(RETRY_SECONDS) + 1):
        deliveries.record(hooks.db, hooks.claim(), Outcome(500))
        hooks.let_wait_pass()
    assert hooks.get(delivery).state == "failed"
    assert hooks.redeliver(delivery).state == "pending"
    claimed = hooks.claim()
    assert (claimed.event_id, claimed.body) == (delivery.event_id, delivery.body)
    being_sent = hooks.redeliver(delivery)
    assert being_sent.lease_expires_at is not None, (
        "it is being sent at this moment: not a second time beside that"
    )
    assert hooks.idle()
    deliveries.record(hooks.db, claimed, Outcome(500))
    assert hooks.get(delivery).state == "pending"
    hooks.redeliver(delivery)
    deliveries.record(hooks.db, hooks.claim(), Outcome(200))
    assert hooks.redeliver(hooks.get(delivery)).state == "pending"
    assert hooks.claim().event_id == delivery.event_id


def test_old_entries_are_forgotten_and_what_waits_is_not(hooks) -> None:
    hook = hooks.create()
    old, waiting, new = hooks.test(hook), hooks.test(hook), hooks.test(hook)
    with hooks.db.write() as session:
        for one, state in ((old, "failed"), (waiting, "pending")):
            past = {"created_at": unix_now() - 2 * DAY, "state": state}
            session.execute(update(Delivery).where(Delivery.id == one.id).values(past))
    assert deliveries.prune(hooks.db, DAY) == 1
    left = deliveries.list_(hooks.db, hooks.project, hook.id).items
    assert {one.id for one in left} == {waiting.id, new.id}


def test_deleting_a_webhook_takes_its_log_and_what_is_being_sent_counts_for_nothing(hooks) -> None:
    hook = hooks.create()
    hooks.test(hook)
    claimed = hooks.claim()
    webhooks.delete(hooks.db, hooks.project, hook.id)
    for status in (200, 410, 500):
        assert not deliveries.record(hooks.db, claimed, Outcome(status))
    with hooks.db.read() as session:
        assert session.scalars(select(Delivery.id)).all() == []


def test_secrets_overlap_and_then_only_the_new_one_signs(hooks) -> None:
    hook, first = webhooks.create(hooks.db, hooks.project, url="https://x", events=["job.queued"], most=9)
    _, second = webhooks.rotate_secret(hooks.db, hooks.project, hook.id, overlap_seconds=3600)
    hooks.test(hook)
    assert hooks.claim().secrets == (second, first)
    _, third = webhooks.rotate_secret(hooks.db, hooks.project, hook.id, overlap_seconds=0)
    hooks.let_wait_pass()
    assert hooks.claim().secrets == (third, first), "without an overlap the one before is worthless at once"
    with hooks.db.write() as session:
        (row,) = session.scalars(select(Webhook))
        row.secrets = [one | {"until": one["until"] and one["until"] - 3601} for one in row.secrets]
    hooks.let_wait_pass()
    assert hooks.claim().secrets == (third,)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_!!!!", "whsec_" + "A" * 28, "A" * 44, "whsec_" + "A" * 88]
)
def test_a_secret_has_a_form(hooks, secret: str) -> None:
    with pytest.raises(BadSecret):
        webhooks.create(
            hooks.db, hooks.project, url="https://x", events=["job.queued"], most=9, secret=secret
        )


def test_a_project_has_only_so_many_also_when_they_are_made_at_once(hooks) -> None:
    gate = Barrier(6)

    def make(_number: int) -> bool:
        gate.wait()
        try:
            hooks.create(most=3)
        except TooManyWebhooks:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(make, range(6))) == 3
