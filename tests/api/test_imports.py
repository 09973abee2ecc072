"""What the API process must not load."""

import subprocess
import sys


def test_the_api_holds_no_torch() -> None:
    code = "import sys, api.app; print([m for m in ('torch', 'torchvision', 'numpy') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
