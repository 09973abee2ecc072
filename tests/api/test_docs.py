"""The page that shows the API asks no other host for anything, and runs no script but its own."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import httpx
import pytest


class Links(HTMLParser):
    """Every address that the page has a browser load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value]


@pytest.fixture
def page(client: httpx.Client) -> httpx.Response:
    return client.get("/docs")


def test_everything_that_the_page_loads_is_served_here(client: httpx.Client, page: httpx.Response) -> None:
    links = Links(page.text).found
    assert len(links) >= 3
    for link in links:
        assert link.startswith("/docs/assets/"), link
        assert client.get(link).status_code == 200
    (document,) = re.findall(r"url: '([^']*)'", page.text)
    assert client.get(document).json()["openapi"].startswith("3.1")


def test_no_script_runs_but_the_pages_own(page: httpx.Response) -> None:
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy["connect-src"] == "'self'"
    assert "http" not in page.headers["Content-Security-Policy"]


def test_the_assets_are_files_of_a_folder_and_nothing_beside_it(client: httpx.Client) -> None:
    answer = client.get("/docs/assets/%2e%2e/core.py")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
