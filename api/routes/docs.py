"""`/docs`: the OpenAPI document as a page to read and try, from this service alone.

FastAPI's own page loads its scripts from another host, which a service on an inner network does not reach, and which
would see who reads it. The scripts come from a package instead, and no others are run.
"""

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

ASSETS = Path(str(files("fastapi_offline"))) / "static"
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

router = APIRouter(include_in_schema=False)


def serve_assets(app: FastAPI) -> None:
    """Serve the page's scripts and styles."""
    app.mount("/docs/assets", StaticFiles(directory=ASSETS))


@router.get("/docs")
def docs() -> HTMLResponse:
    """Show the page."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="abdistill: the API",
        swagger_js_url="/docs/assets/swagger-ui-bundle.js",
        swagger_css_url="/docs/assets/swagger-ui.css",
        swagger_favicon_url="/docs/assets/favicon.png",
    )
    page.headers["Content-Security-Policy"] = _policy(bytes(page.body))
    return page


def _policy(page: bytes) -> str:
    """Only this service's files, and the very script that is in the page, by its hash."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE.findall(page)
    )
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
