"""The corpus into the running service: nothing runs, nothing breaks, nothing stays, and each answer says why."""

import json
import sys
import time
from pathlib import Path

import pytest
from hostile.corpus import CORPUS
from hostile.corpus.pickles import CANARY
from hostile.corpus.requests import REQUESTS
from hostile.siege import Siege, Verdict, besieged, table
from plugins.forge import Forge

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

MOST_GROWTH_BYTES = 64 * 2**20
_QUICK = {
    "pickles that run a command: os.system",
    "paths out of the archive: parent, tar_gz",
    "tar headers that lie: 2,000 long names in a row",
}


def test_a_few_files_and_all_requests(tmp_path: Path, forge: Forge) -> None:
    cases = [case for case in CORPUS if str(case) in _QUICK]
    assert len(cases) == len(_QUICK)
    with besieged(tmp_path, forge) as siege:
        verdicts = [*siege.ask(REQUESTS), *siege.send(cases)]
        _nothing_happened(siege, verdicts)
        siege.check_that_it_goes_on()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_corpus(
    tmp_path: Path, forge: Forge, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    started = time.monotonic()
    with besieged(tmp_path, forge) as siege:
        verdicts = [*siege.ask(REQUESTS), *siege.send(CORPUS)]
        _nothing_happened(siege, verdicts)
        siege.check_that_it_goes_on()
        told = {
            "families": table(verdicts),
            "seconds": round(time.monotonic() - started),
            "executions": int(CANARY.exists()),
            "server_errors": len(siege.server_errors),
            "files_left": len(siege.files_left()),
            "api_grown_mib": round(siege.grown_bytes / 2**20, 1),
        }
    with capsys.disabled():
        print(json.dumps(told, indent=1))
    target = pytestconfig.getoption("--verdicts", default=None)
    if target is not None:
        Path(target).write_text(json.dumps(told, indent=1) + "\n")


def _nothing_happened(siege: Siege, verdicts: list[Verdict]) -> None:
    assert verdicts
    assert not CANARY.exists(), "an upload's code ran"
    assert siege.server_errors == []
    assert siege.files_left() == []
    assert siege.grown_bytes < MOST_GROWTH_BYTES
