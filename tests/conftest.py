"""Fixtures of the whole suite."""

import sys
from pathlib import Path

# Tests are imported by path (importmode=importlib); what they share is imported by name, from here.
sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["plugins.postgres", "plugins.receiver", "plugins.s3"]
