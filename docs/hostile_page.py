"""Writes docs/hostile.md from the verdicts that `make hostile` left: `python docs/hostile_page.py`."""

import json
from pathlib import Path

PAGE = Path(__file__).with_name("hostile.md")
VERDICTS = Path(__file__).parent / "hostile" / "verdicts.json"
HEAD = """# Hostile files

`make hostile` makes {files} files and requests of {families} families (`tests/hostile/`) and sends each to the running service: API, worker and
broker as processes. It fails if a canary shows that an upload's code ran, if any answer is a 5xx, if a file is left, if a refusal does
not name what is wrong and where by a registered code, or if the API grows by 64 MiB. What is not refused does no harm: pictures
that move, of which the first frame counts; pictures with something appended, which nobody reads; pictures that unfold within bounds.

The last run, {seconds} s on 2 cores: {refused} refused, {accepted} harmless; {executions} executions, {server_errors} answers of 5xx, {files_left}
files left; the API grew by {api_grown_mib} MiB. This page is made from it by `python docs/hostile_page.py`.

| family | files | refused | by |
|---|---|---|---|
"""


def page() -> str:
    """The page's text: a row a family."""
    told = json.loads(VERDICTS.read_text())
    families = told.pop("families")
    files, refused = (sum(family[what] for family in families) for what in ("files", "refused"))
    rows = []
    for family in families:
        codes = ", ".join(f"`{code}` {count}" for code, count in family["codes"].items())
        rows.append(f"| {family['family']} | {family['files']} | {family['refused']} | {codes} |\n")
    head = HEAD.format(families=len(families), files=files, refused=refused, accepted=files - refused, **told)
    return head + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
