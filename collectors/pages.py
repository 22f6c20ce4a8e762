"""Scrapes exporter pages: over HTTP in the background, or from whoever hands them over."""

import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence

from collectors.aliases import aliases
from collectors.exposition import LIES, MOST_BYTES, Page, PageError, parse_page
from collectors.sourcestate import SourceStates, reading
from holdfast.events import Observation, Samples

_MOST_WAITING = 4096


class Pages:
    """The collector `pages`. A source that is down, or that writes nonsense, is `source.up` 0 and never an exception.

    urls: pages to scrape every `every_s`, each with `timeout_s`
    read: instead of urls, gives the pages that are ready now, as source, text (None: it cannot be read), node and job
    names: an alias table of the user's own, over the one of the package
    """

    durable = False

    def __init__(
        self, *, urls: Sequence[str] = (), every_s: float = 15.0, timeout_s: float = 5.0, names: str = "",
        read: Callable[[float], Iterable[tuple[str, str | None, str, str]]] | None = None,
    ) -> None:  # fmt: skip
        self._names = aliases(names)
        self._read = read
        self._ready: queue.Queue[Page | str] = queue.Queue(_MOST_WAITING)
        self._states = SourceStates()
        self._lying: set[str] = set()
        for url in urls:
            scraper = threading.Thread(target=self._scrape, args=(url, every_s, timeout_s), name=f"scrape {url}", daemon=True)
            scraper.start()

    def poll(self, now: float) -> Iterator[Observation]:
        """What has come since the last time."""
        for source, text, node, job in self._read(now) if self._read is not None else ():
            if text is None:
                yield from self._states.of(source, now, up=False, node=node, job=job)
            else:
                yield from self._parse(Page(source, text, node, job), now)
        for _ in range(self._ready.qsize()):
            page = self._ready.get_nowait()
            if isinstance(page, str):
                yield from self._states.of(page, now, up=False)
            else:
                yield from self._parse(page, now)

    def _parse(self, page: Page, now: float) -> Iterator[Observation]:
        try:
            tables = list(parse_page(page, names=self._names, at=now))
        except PageError:
            yield from self._states.of(page.source, now, up=False, node=page.node, job=page.job)
            return
        yield from tables
        yield from self._honest(page, tables, now)
        yield from self._states.of(page.source, now, up=True, node=page.node, job=page.job)

    def _honest(self, page: Page, tables: Sequence[Samples], now: float) -> Iterator[Observation]:
        """A page that held readings that are none, and holds none of them any more, is said to be as it should be."""
        if any(LIES[0] in table.signals for table in tables):
            self._lying.add(page.source)
        elif page.source in self._lying:
            self._lying.discard(page.source)
            yield reading(page.source, dict.fromkeys(LIES, 0.0), now, node=page.node, job=page.job)

    def _scrape(self, url: str, every_s: float, timeout_s: float) -> None:
        while True:
            begun = time.monotonic()
            try:
                with urllib.request.urlopen(url, timeout=timeout_s) as answer:
                    self._put(Page(url, answer.read(MOST_BYTES).decode("utf-8", "replace")))
            except (urllib.error.URLError, OSError, ValueError):
                self._put(url)
            time.sleep(max(0.1, every_s - (time.monotonic() - begun)))

    def _put(self, page: Page | str) -> None:
        try:
            self._ready.put_nowait(page)
        except queue.Full:  # nobody polls: what comes next is newer
            return
