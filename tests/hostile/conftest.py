"""What the tests of the hostile corpus share with those of the readers, and where the siege writes its verdicts."""

import pytest
from plugins.room import forge, model, room

__all__ = ["forge", "model", "room"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Only known where this folder is named on the command line."""
    parser.addoption("--verdicts", help="file that the siege of the service writes its verdicts to, as JSON")
