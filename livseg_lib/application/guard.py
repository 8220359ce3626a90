"""Who may ask the app what over HTTP: only pages of its own, only what its page needs, nothing too large."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
LARGEST_UPLOAD_BYTES = 2 * 1024**3
SPARE_BYTES = 1024**3  # of the disk, left free by uploads
LARGEST_QUESTION_BYTES = 1024**2
API = "/gradio_api"
READ = re.compile(
    rf"/|/metrics|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon.*|/(assets|static|svelte)/.*"
    rf"|{API}/(info/?|openapi\.json|app_id/?|startup-events|theme\.css|heartbeat/[\w-]+|queue/(data|status)"
    rf"|upload_progress|call/(v2/)?\w+/[\w-]+|file=/.*)"
)
ASKED = re.compile(rf"{API}/(queue/join|call/(v2/)?\w+/?|cancel|reset/?|upload)")
"""All that the page and a client need. Gradio serves more: proxies, logins, monitoring, deep links."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "media-src 'self' data: blob:; "
        "worker-src 'self' blob:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Sent with every answer. Gradio's page has scripts in it and compiles templates: what the rules
prevent is that anything is fetched from, sent to or framed by another site."""
NOT_STORED = {"Cache-Control": "no-store"}  # with all but the page's own parts


class Guard:
    """An ASGI layer around `app`; `page` knows where it is served, `hosts` are further names of it.

    A request that names another host (DNS rebinding) or comes from another site's page (cross-site request
    forgery) is refused with 403, what the page does not need with 404, an upload that is too large or would
    fill the disk of `uploads` with 413 or 507. `/health` answers whoever looks whether the app is up, and
    `/metrics`, under its own names, gives `counts` as Prometheus reads them.
    """

    def __init__(
        self,
        app: ASGIApp,
        page: gr.Blocks,
        uploads: Path,
        hosts: Sequence[str] = (),
        counts: Callable[[], dict[str, float]] = dict,
    ) -> None:
        self.app, self.page, self.uploads, self.hosts, self.counts = app, page, uploads, hosts, counts
        self._coming_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, self._with_headers(scope, send))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        if path == "/health":
            await PlainTextResponse("up\n")(scope, receive, send)
            return
        refused = self._refusal(scope["method"], path, scope["query_string"], headers)
        if refused is None and scope["method"] == "POST" and not path.endswith("/upload"):
            question = await Request(scope, receive).body()  # its length was looked at before
            receive = _replayed(question, receive)
            refused = _refused_question(question, self.uploads)
        if refused is not None:
            await PlainTextResponse(refused[1], refused[0])(scope, receive, send)
            return
        if path == "/metrics":
            lines = [f"livseg_uploads_{name} {number:g}\n" for name, number in self.counts().items()]
            await PlainTextResponse("".join(lines))(scope, receive, send)
            return
        coming_bytes = _length(headers) or 0
        self._coming_bytes += coming_bytes
        try:
            await self.app(scope, receive, send)
        finally:
            self._coming_bytes -= coming_bytes

    def _refusal(self, method: str, path: str, query: bytes, headers: Headers) -> tuple[int, str] | None:
        """Status and sentence; None where the request may pass."""
        host, origin = headers.get("host", ""), headers.get("origin")
        its_own = (_name(self.page.share_url or ""), getattr(self.page, "server_name", None))
        known = {*LOOPBACK, *self.hosts, *filter(None, its_own)}
        if _name(f"//{host}") not in known:
            return 403, "The app is not served under this name. Allow it with --host NAME."
        names = known.difference(LOOPBACK)
        foreign = origin is not None and origin.partition("://")[2] != host and _name(origin) not in names
        visit = method == "GET" and headers.get("sec-fetch-mode") == "navigate" and path == "/"
        if foreign or (headers.get("sec-fetch-site") in ("cross-site", "same-site") and not visit):
            return 403, "The app answers its own page only."
        if b"deep_link" in query or not (ASKED if method == "POST" else READ).fullmatch(path):
            return 404, "There is nothing here."
        if method not in ("GET", "HEAD", "POST"):
            return 405, "There is nothing to be done here."
        return self._too_large(path, headers) if method == "POST" else None

    def _too_large(self, path: str, headers: Headers) -> tuple[int, str] | None:
        length = _length(headers)
        if length is None:
            return 411, "Say how long it is (Content-Length)."
        if length > (LARGEST_UPLOAD_BYTES if path.endswith("/upload") else LARGEST_QUESTION_BYTES):
            return 413, "This is larger than the maximum allowed size."
        free = shutil.disk_usage(self.uploads).free - self._coming_bytes - SPARE_BYTES
        return (507, "The disk has no room for this file.") if length > free else None

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        kept = scope["path"].startswith(("/assets/", "/static/"))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS if kept else HEADERS | NOT_STORED)
            await send(message)

        return send_with_headers


def failed(request: Request, error: Exception) -> PlainTextResponse:
    """What is said where Gradio fails: that answer does not pass the guard."""
    return PlainTextResponse("This could not be answered.", 500, HEADERS | NOT_STORED)


def _name(address: str) -> str:
    """The host in an address, without its port; empty where there is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _length(headers: Headers) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` as if nobody had read `body`."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _refused_question(question: bytes, uploads: Path) -> tuple[int, str] | None:
    """Files are named that were uploaded here: no address that the app would fetch, no other file of it."""
    try:
        named = list(_paths_in(json.loads(question or b"null")))
    except (ValueError, RecursionError):
        return 400, "This is no JSON."
    for path in named:
        if not isinstance(path, str) or ".." in path or not _is_upload(Path(path), uploads):
            return 400, "Upload the file first."
    return None


def _is_upload(path: Path, uploads: Path) -> bool:
    """Whether it is a file of `uploads`: a folder of it would be those of other visitors."""
    try:
        return path.is_relative_to(uploads) and path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _paths_in(value: object) -> list:
    if isinstance(value, dict):
        inner = [path for item in value.values() for path in _paths_in(item)]
        return [*inner, *([value["path"]] if "path" in value else [])]
    return [path for item in value for path in _paths_in(item)] if isinstance(value, list) else []
