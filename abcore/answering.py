"""A process that answers one JSON line on stdout for each on stdin, until end-of-file."""

import contextlib
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

from abcore.specs.refusals import Refusal


def serve(answer: Callable[[str], Any], warm_up: Callable[[], object] = lambda: None) -> None:
    """Say `{"ready": true}` after `warm_up`, then answer each line.

    What `answer` returns is told as `{"ok": ...}`, a Refusal that it raises as `{"refused": Problem}`, and any other
    exception, a bug, as `{"error": "..."}`: the next line has nothing to do with this one.
    """
    answers = sys.stdout
    with contextlib.redirect_stdout(
        sys.stderr
    ):  # whatever a library prints must not come between the answers
        warm_up()
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(_told(answer, line)), file=answers, flush=True)


def _told(answer: Callable[[str], Any], line: str) -> dict[str, Any]:
    try:
        return {"ok": answer(line)}
    except Refusal as refusal:
        return {"refused": refusal.problem.model_dump(mode="json")}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}
