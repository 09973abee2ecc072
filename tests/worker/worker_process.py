"""`python worker_process.py CHILD...`: a worker by this environment's settings, whose children are that program."""

import sys

from store.settings import get_settings
from worker.main import run

run(get_settings(), tuple(sys.argv[1:]))
