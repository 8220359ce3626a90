"""Who may ask the app what: pages of its own, what its page needs, nothing too large."""

from collections import namedtuple
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio")

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from livseg_lib.application import guard as module
from livseg_lib.application.guard import Guard

JOIN, UPLOAD = "/gradio_api/queue/join", "/gradio_api/upload"
HERE = "http://127.0.0.1:7860"


@pytest.fixture
def client(tmp_path):
    """Asks an app that answers everything with what it was sent."""

    async def echo(request):
        return PlainTextResponse((await request.body()).decode() or "answered")

    inner = Starlette()
    inner.add_route("/{path:path}", echo, methods=["GET", "POST", "PUT", "DELETE"])
    page = SimpleNamespace(share_url="https://0a1b.gradio.live", server_name="192.168.0.7")
    return TestClient(Guard(inner, page, tmp_path, ("livseg.clinic.example",)), base_url=HERE)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:7860", "127.0.0.1", "localhost:1234", "LOCALHOST", "[::1]:7860", "[::1]"),
        *("0a1b.gradio.live", "192.168.0.7:7860", "livseg.clinic.example:443"),
    ],
)
def test_its_own_names_are_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", ""),
        *("127.0.0.1@evil.example", "evil.example#127.0.0.1", "2c3d.gradio.live", "[::1", "127.1"),
    ],
)
def test_another_name_is_refused_as_rebound(client, host):
    for told in (client.get("/", headers={"host": host}), client.post(JOIN, json={}, headers={"host": host})):
        assert told.status_code == 403 and "answered" not in told.text


@pytest.mark.parametrize(
    "headers",
    [
        *({"origin": name} for name in ("http://evil.example", "null", "", "http://localhost:8888")),
        *({"origin": f"http://{name}"} for name in ("127.0.0.1:7861", "127.0.0.1:7860.evil.example", "[::1")),
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_another_sites_page_cannot_ask_or_upload(client, headers):
    for path in (JOIN, UPLOAD, "/gradio_api/call/predict", "/gradio_api/cancel"):
        assert client.post(path, content=b"{}", headers=headers).status_code == 403
    assert client.get("/gradio_api/heartbeat/0a1b", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a program
        {"origin": HERE, "sec-fetch-site": "same-origin"},
        {"origin": "https://0a1b.gradio.live"},  # whose tunnel may name this machine as the host
        {"origin": "https://livseg.clinic.example"},
        {"origin": "http://localhost:7860", "host": "localhost:7860"},
    ],
)
def test_its_own_page_and_programs_can(client, headers):
    assert client.post(JOIN, content=b'{"data": [1]}', headers=headers).text == '{"data": [1]}'


def test_a_link_on_another_page_leads_here(client):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=headers).status_code == 200
    assert client.get("/gradio_api/file=/a", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        *("/monitoring", "/monitoring/summary", "/login", "/logout", "/other", "/?deep_link=a"),
        *(f"/gradio_api/{path}" for path in ("runs", "token", "vibe-code", "dev/reload", "mcp/sse")),
        *(f"/gradio_api/{path}" for path in ("file=a", "file=http://10.0.0.1/", "file/etc/passwd")),
        *(f"/gradio_api/{path}" for path in ("proxy=https://a.hf.space/x", "deep_link?session_hash=a")),
        *(f"/gradio_api/{path}" for path in ("custom_component/a/client/b/c", "run-history/buckets")),
        "/gradio_api/stream/a/b/c/playlist.m3u8",
    ],
)
def test_what_the_page_does_not_need_is_not_there(client, path):
    assert client.get(path).status_code == 404


def test_nothing_is_done_beside_the_queue(client):
    for path in ("run/predict", "api/predict", "component_server", "stream/a"):
        assert client.post(f"/gradio_api/{path}", json={}).status_code == 404
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert client.request(method, "/").status_code == 405


def test_what_is_too_large_is_refused_before_it_comes(client, monkeypatch):
    assert client.post(UPLOAD, content=b"", headers={"content-length": str(2**31 + 1)}).status_code == 413
    assert client.post(JOIN, content=b"0" * (2**20 + 1)).status_code == 413
    assert client.post(UPLOAD, content=iter([b"of unknown length"])).status_code == 411
    usage = namedtuple("Usage", "free")(2**30 + 5)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    assert client.post(UPLOAD, content=b"123456").status_code == 507
    assert client.post(UPLOAD, content=b"12345").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("http://10.0.0.1/x.png", "https://example.org/x.png", "/etc/passwd", "relative", "", None, 7),
        *(["/a"], "{uploads}/../secret", "file://{uploads}/a", "{uploads}-beside/a"),
        *(
            "{uploads}",
            "{uploads}/.",
            "{uploads}/a",
            "{uploads}/none",
            "{uploads}/\0",
            "{uploads}/" + "x" * 300,
        ),
    ],
)
def test_only_files_uploaded_here_can_be_named(client, tmp_path, path):
    named = path.format(uploads=tmp_path) if isinstance(path, str) else path
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.nii").touch()
    question = {"data": [[{"path": f"{tmp_path}/a/b.nii"}]]}
    assert client.post(JOIN, json=question).status_code == 200
    question["data"][0].append({"deeper": [{"path": named}]})
    assert client.post(JOIN, json=question).status_code == 400


def test_a_question_that_is_no_json_is_refused(client):
    for content in (b"{", b"\xff", b"[" * 100_000):
        assert client.post(JOIN, content=content).status_code == 400


def test_every_answer_has_its_headers_and_only_the_pages_parts_are_kept(client):
    for path in ("/", "/other", "/gradio_api/file=/a"):
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
    assert "cache-control" not in client.get("/assets/index.js").headers
