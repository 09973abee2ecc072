"""The page of figures says what the measurements beside it say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def module() -> ModuleType:
    found = importlib.util.spec_from_file_location("performance_page", DOCS / "performance_page.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_it_is_made_of_the_measurements_beside_it(module: ModuleType) -> None:
    assert (DOCS / "performance.md").read_text() == module.page(), "run `python docs/performance_page.py`"


def test_a_figure_on_the_wrong_side_of_its_target_says_so(module: ModuleType) -> None:
    low, high = (module.Target("m", "f", "w", **bound) for bound in ({"most": 1.15}, {"least": 5}))
    assert [("missed" in low.row(value)) for value in (1.1, 1.2)] == [False, True]
    assert [("missed" in high.row(value)) for value in (5.1, 4.9)] == [False, True]
