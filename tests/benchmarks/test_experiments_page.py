"""The page of experiments says what its runs say."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_its_tables_are_computed_from_the_runs_beside_it() -> None:
    found = importlib.util.spec_from_file_location("experiments_page", DOCS / "experiments_page.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    assert (DOCS / "experiments.md").read_text() == module.page(), "run `python docs/experiments_page.py`"
