"""Writes docs/settings.md from the settings themselves: `python docs/settings_page.py`."""

from pathlib import Path

from store.settings import Settings

PAGE = Path(__file__).with_name("settings.md")
HEAD = """# Settings

Environment variables of the API, the workers and `abdistill-server`; all processes of one service must agree on them.
Every one has a default that works on one machine. This page is made by `python docs/settings_page.py`.

| variable | default | meaning |
|---|---|---|
"""


def page() -> str:
    """The page's text: a row a setting, in the order of the class."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default in ("", None) else f"`{field.default}`"
        rows.append(f"| `ABDISTILL_{name.upper()}` | {default} | {field.description} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
