"""What a page points to: does every link resolve, and does it load anything from elsewhere?"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

CSS_URL = re.compile(r"url\(\s*['\"]?(?!data:|#)([^'\")]+)|@import\s+['\"]([^'\"]+)")


def _parsed(page: Path | str) -> BeautifulSoup:
    return BeautifulSoup(Path(page).read_text(encoding="utf-8"), "html.parser")


def _resources(content: BeautifulSoup) -> list[str]:
    """What a browser fetches by itself."""
    loaded = [tag.get("src") or tag["href"] for tag in content.select("[src]:not([src='']), link[href]")]
    styles = "".join(style.text for style in content("style"))
    return loaded + ["".join(found) for found in CSS_URL.findall(styles)]


def broken_links(page: Path | str) -> list[str]:
    """Relative links and resources of an HTML file that lead nowhere: missing files and anchors."""
    content = _parsed(page)
    anchors = {tag.get(name) for name in ("id", "name") for tag in content.select(f"[{name}]")}

    def resolves(link: str) -> bool:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:  # data: and the network are not ours to check
            return True
        if not parts.path:
            return unquote(parts.fragment) in anchors
        return (Path(page).parent / unquote(parts.path)).exists()

    links = [tag["href"] for tag in content.select("a[href]")] + _resources(content)
    return [link for link in links if not resolves(link)]


def external_resources(page: Path | str) -> list[str]:
    """What a browser would fetch from another machine on opening the HTML file: best none.

    Links that a reader may click (`<a href>`) are not counted.
    """
    return [resource for resource in _resources(_parsed(page)) if urlsplit(resource).netloc]


def words(page: Path) -> str:
    """What a reader sees of the page: its text without tags."""
    return " ".join(_parsed(page).get_text(" ").split())
