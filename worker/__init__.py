"""The worker: claims jobs, runs each in a child process on a leash, tells the store what happens. Knows no torch.

- `main`         one worker process, from settings
- `app`, `tasks` the queue's end: a ring means "look for work"
- `poller`       looks for work without a ring, and sweeps up after lost workers
- `attempt`      one attempt at one job, from claim to outcome
- `heartbeat`    keeps the lease, and with it the child, alive
- `workspace`, `inputs`, `cache`   the child's folder and what lies in it
- `guardian`     how a child is started, and what it may not do; `forks`: the process that it is forked from
- `relay`, `checkpoints`, `publish`   what comes out: events, resume state, results
"""
