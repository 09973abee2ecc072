"""The real service under kill -9, freezes, lost brokers and databases, full disks; and a checker of what is left.

`make faults` runs it (docs/faults.md). It is a program, not a test; `test_checker.py` holds the checker to its word.

- `processes`  programs that are started again when they die, and what lives below them
- `grounds`    where rows and files are: SQLite and a folder, PostgreSQL and S3
- `service`    the service on such a ground, as processes, and its user
- `kinds`      what is done to it
- `checker`    what must be true in the end
"""
