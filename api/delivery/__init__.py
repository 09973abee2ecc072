"""Telling webhooks what happened: `store.outbox` has written what is to be told, these send it.

- `addresses`   where a webhook may lead, and where its name leads at this moment
- `signing`     the headers of the Standard Webhooks specification
- `sending`     one attempt: one address, one request, no redirect, a limit on everything
- `deliverer`   who sends when; any number of processes may do it at once
"""
