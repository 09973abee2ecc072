"""Everything that outlives a process: rows in a database, files in a blob store, rings on a broker.

The database is the truth about a job; a broker message is only a doorbell. Knows no torch and no HTTP.

- `settings`, `database`, `models`, `schema`      the ground
- `jobs`                                          a user's side of a job: submit, list, cancel, pause
- `leases`, `progress`, `sweep`                   a worker's side: claim, renew, record, finish, take back
- `evaluations`                                   how good a teacher is on a dataset
- `teachers`, `datasets`, `artifacts`, `blobs`    what goes in and what comes out
- `part_uploads`                                  content that comes in parts
- `references`, `janitor`                         which blobs rows speak of, and the end of the others
- `outbox`, `webhooks`, `deliveries`              who is told of a change, and how far that is
- `keys`, `queue`                                 who may ask, and how a worker hears of it
"""
