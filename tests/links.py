"""What a page points to: does every link resolve, and does it load anything from elsewhere?"""

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src", "video": "src"}
"""Elements whose attribute makes a browser fetch something by itself."""

CSS_URL = re.compile(r"url\(\s*['\"]?(?!data:|#)([^'\")]+)|@import\s+['\"]([^'\"]+)")


class _Page(HTMLParser):
    """Gathers links, loaded resources and anchors of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.resources: list[str] = []
        self.anchors: set[str] = set()
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if values.get(LOADING.get(tag, "")):
            self.resources.append(values[LOADING[tag]])

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.resources += ["".join(found) for found in CSS_URL.findall(data)]


def broken_links(page: Path | str) -> list[str]:
    """Relative links and resources of an HTML file that lead nowhere: missing files and anchors."""
    page = Path(page)
    content = _Page(page.read_text(encoding="utf-8"))
    return [
        link
        for link in content.links + content.resources
        if not _resolves(link, page.parent, content.anchors)
    ]


def external_resources(page: Path | str) -> list[str]:
    """What a browser would fetch from another machine on opening the HTML file: best none.

    Links that a reader may click (`<a href>`) are not counted.
    """
    resources = _Page(Path(page).read_text(encoding="utf-8")).resources
    return [resource for resource in resources if urlsplit(resource).netloc]


def _resolves(link: str, folder: Path, anchors: set[str]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:  # data: and the network are not ours to check
        return True
    if not parts.path:
        return unquote(parts.fragment) in anchors
    return (folder / unquote(parts.path)).exists()


def words(page: Path) -> str:
    """What a reader sees of the page: its text without tags."""
    text = re.sub(r"<(style|script)>.*?</\1>|<[^>]+>", " ", page.read_text(), flags=re.S)
    return " ".join(html.unescape(text).split())
