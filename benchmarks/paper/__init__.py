"""The paper's experiments (arXiv 1811.03233, section 4), each by one command: `python -m benchmarks.paper --help`."""
