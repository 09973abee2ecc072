"""What a project may have, as its client sees it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from abdistill import Client, QuotaExceeded

from store import quotas
from store.models import DEFAULT_PROJECT


@pytest.fixture
def limit(backstage: Any) -> Iterator[Any]:
    yield lambda **limits: quotas.set_limits(backstage.db, DEFAULT_PROJECT, limits)
    quotas.set_limits(backstage.db, DEFAULT_PROJECT, dict.fromkeys(quotas.QUOTAS))


def test_a_quota_is_told_and_not_knocked_at(
    shaky: Client, proxy: Any, backstage: Any, file: Path, limit: Any
) -> None:
    dataset = backstage.ready_dataset(shaky, file)
    student = {"arch": "wide_resnet", "depth": 10, "width": 1}
    recipe = {"transfer": None, "finetune": {"kd_weight": 0.0, "cross_entropy_weight": 1.0}}
    limit(queued_jobs=0)
    with pytest.raises(QuotaExceeded, match="queued_jobs") as refused:
        shaky.jobs.create(dataset=dataset, student=student, recipe=recipe)
    assert refused.value.status == 429
    assert len(proxy.heads("POST /v1/jobs")) == 1
    stored = shaky.usage().stored_bytes.used
    limit(stored_bytes=stored)
    with pytest.raises(QuotaExceeded, match="stored_bytes") as refused:
        shaky.datasets.add(file)
    assert refused.value.status == 507


def test_the_command_shows_what_there_is(run_cli: Any, client: Client, limit: Any) -> None:
    limit(running_jobs=3, stored_bytes=10**9)
    shown = run_cli("usage").stdout
    assert " of 3" in shown
    assert "of 1.0 GB" in shown
    assert "of any number" in shown
    found = json.loads(run_cli("usage", "--json").stdout)
    assert (found["running_jobs"], found["project"]) == (
        # Jobs of other tests may still run.
        {"used": found["running_jobs"]["used"], "limit": 3},
        client.usage().project,
    )
