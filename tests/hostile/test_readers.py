"""Every file of the corpus into its reader: the right problem, in the right place, and nothing done."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile.case import Case
from hostile.corpus import CORPUS
from hostile.corpus.pickles import CANARY, GADGETS

from abcore.specs.codes import CODES

LEAST_FILES, LEAST_FAMILIES = 150, 25


def test_the_corpus_is_as_large_as_it_claims() -> None:
    assert len({str(case) for case in CORPUS}) == len(CORPUS) >= LEAST_FILES
    assert len({case.family for case in CORPUS}) >= LEAST_FAMILIES
    assert {code for case in CORPUS for code in case.codes} <= set(CODES)


_PROOF = """
import pickle, sys
from pathlib import Path
from hostile.corpus.pickles import gadgets

canary, harmless = Path(sys.argv[1]), []
for name, evil in gadgets(canary).items():
    try:
        pickle.loads(pickle.dumps(evil, protocol=2))
    except Exception:
        pass  # what it ran may well have failed after it had run
    if not canary.is_symlink() and not canary.exists():
        harmless.append(name)
    elif canary.is_dir():
        canary.rmdir()
    else:
        canary.unlink()
print(harmless)
"""


def test_the_canary_would_show_an_execution(tmp_path: Path) -> None:
    """The other tests prove nothing unless this one passes: each of these pickles runs when it is simply loaded."""
    roots = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    child = subprocess.run(
        [sys.executable, "-c", _PROOF, str(tmp_path / "canary")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(roots)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.splitlines()[-1] == "[]"
    assert len(GADGETS) >= 20


@pytest.mark.filterwarnings("default")  # as in a child: a library that warns of a file has not refused it
@pytest.mark.parametrize("case", CORPUS, ids=str)
def test_each_is_refused_by_name_or_does_no_harm(forge: Any, room: Any, case: Case) -> None:
    upload = case.make(forge)
    options = {} if case.image_size is None else {"image_size": case.image_size}
    if not case.codes:
        (room.accept_teacher if case.reader == "teacher" else room.accept_dataset)(upload, **options)
    else:
        problem = (room.refuse_teacher if case.reader == "teacher" else room.refuse_dataset)(
            upload, **options
        )
        assert problem.code in case.codes, problem
        assert case.where is None or problem.where == case.where
        if problem.code == "checkpoint.foreign_object":
            assert problem.value in problem.message, "it says what it found"
    assert not CANARY.exists()
