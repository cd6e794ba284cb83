"""Check a built site: every link and picture leads to a file, every anchor to a place in it, and nothing is fetched
from elsewhere when a page is opened. ``python docs/site/links.py build/site``
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page has: places, links, and what a browser fetches by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.places |= {has[name] for name in ("id", "name") if name in has}
        if tag == "a" and "href" in has:
            self.links.append(has["href"])
        if tag in ("img", "script", "iframe", "source") and "src" in has:
            self.fetched.append(has["src"])
        if tag == "link" and {"stylesheet", "icon", "preload"} & set(has.get("rel", "").split()):
            self.fetched.append(has["href"])


def faults(site: Path) -> list[str]:
    """A line for each link that is dead and each thing that comes from elsewhere."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        for link in [*page.links, *page.fetched]:
            parts = urlsplit(link)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                if link in page.fetched:
                    found.append(f"{name}: fetches {link}")
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            there = there / "index.html" if there.is_dir() else there
            if not there.exists():
                found.append(f"{name}: {link} is not there")
                continue
            aim = pages.get(site / there.relative_to(site.resolve()))
            if parts.fragment and aim and unquote(parts.fragment) not in aim.places:
                found.append(f"{name}: {link} has no such place")
    for path in sorted(site.rglob("*.css")):
        for link in re.findall(r"(?:url\(|@import )[\"']?(https?:[^\"')]+)", path.read_text(encoding="utf-8")):
            found.append(f"{path.relative_to(site)}: fetches {link}")
    return found


def main() -> None:
    site = Path(sys.argv[1])
    found = faults(site)
    print(*found, sep="\n", end="\n" if found else "")
    count = len(list(site.rglob("*.html")))
    if found or not count:
        sys.exit(f"{site}: {len(found)} faults on {count} pages")
    print(f"{site}: {count} pages, no dead link, nothing from elsewhere")


if __name__ == "__main__":
    main()
