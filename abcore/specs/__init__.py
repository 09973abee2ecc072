"""What a caller may ask for, and what the core answers: frozen pydantic models, without torch.

- `architectures`  which network
- `recipes`        how it is trained
- `runs`           one piece of work for the child process (`run.json` of a workspace)
- `reports`        what the core found out: descriptions, verification reports, results
- `refusals`       why something cannot be done, in words that its user can act on
"""
