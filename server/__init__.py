"""The service on one machine: broker, API and worker under one supervisor, and the operator's commands.

- `main`                        `abdistill-server up | migrate | keys | doctor`
- `up`                          what is started, in which order, and what is printed
- `supervisor`, `console`       processes on a leash: ready, restarted, stopped; their output with a prefix
- `broker`, `address`, `access` the embedded Valkey; a free port; the key of this machine's user
- `doctor`                      what is missing, and what to do about it
"""
