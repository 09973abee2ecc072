"""What a run emits, in words."""

import io
from pathlib import Path

from abcore.events import EventWriter, Metrics, Note, PhaseFinished, Progress


def test_a_log_tells_what_happens_in_words_and_leaves_progress_out(tmp_path: Path) -> None:
    log = io.StringIO()
    writer = EventWriter(tmp_path / "events.jsonl", log)
    place = {"phase": "finetune", "epoch": 3, "step": 120}
    writer.emit(Note(time=0.0, level="warning", code="x", message="Small batches."))
    writer.emit(Metrics(time=1.0, values={"loss": 0.123456789, "eval/top1": 0.9}, **place))
    writer.emit(Progress(time=2.0, fraction=0.5, images_per_second=1.0, eta_seconds=1.0, **place))
    writer.emit(PhaseFinished(time=86_400.0, phase="finetune", seconds=1.25))
    writer.close()
    assert log.getvalue().splitlines() == [
        "1970-01-01 00:00:00 warning: Small batches.",
        "1970-01-01 00:00:01 info: finetune, epoch 3, step 120: loss 0.12346, eval/top1 0.9",
        "1970-01-02 00:00:00 info: Phase finetune finished after 1.2 s.",
    ]
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == 4
