"""`holdfast diagnose metrics`: exporters' text pages, one or several over time, -> findings, and one verdict."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from collectors.aliases import Alias, AliasError, aliases
from collectors.exposition import MOST_BYTES, Page, PageError, Places, parse_page, written_at
from collectors.node.tree import natural
from detectors.nodecheck.checks import Checks
from detectors.nodecheck.judge import Judge
from holdfast.node.rows import Where, in_order, row_of, verdict_of
from holdfast.ports import Input
from holdfast.topology import Kind, Target
from holdfast.verdict import Skipped, Verdict

_SAMPLE = re.compile(rb"^[a-zA-Z_:][a-zA-Z0-9_:]*(?:\{[^\n]*\})? +[-+0-9.eE]+[a-zA-Z]{0,3}(?: +-?\d+)?[ \t\r]*$", re.MULTILINE)
_COMMENT = re.compile(rb"^# (?:HELP|TYPE|UNIT|EOF)\b", re.MULTILINE)
_HOST = re.compile(r'(?:[hH]ostname|nodename)="([^"]{1,253})"')
_SELF = re.compile(r'UUID="([^"]{1,80})"|^node_boot_time_seconds (\S{1,32})', re.MULTILINE)
_EPOCH = re.compile(r"(?<!\d)(1\d{9}|[2-9]\d{9})(?:\d{3})?(?!\d)")
_EVERY_S = 15.0  # between pages that do not say when they were written


class _Read(NamedTuple):
    """A page of a file. stream: pages with the same come from one source; at: seconds, None where neither page nor name say."""

    given: Input
    text: str
    stream: str
    at: float | None
    node: str


class Metrics:
    """The diagnoser `metrics`. options: names, an alias table of one's own; checks, a table of checks of one's own."""

    kinds: Mapping[str, str] = {"metrics_page": "a page in Prometheus' text format, as exporters and inference engines write it"}

    def __init__(self) -> None:
        self.skipped: list[Skipped] = []  # of the last `findings`

    def recognise(self, name: str, head: bytes) -> str:
        rows = [line for line in head.split(b"\n")[:400] if line.strip()][:-1] or [head.strip()]
        fits = sum(bool(_COMMENT.match(line) or _SAMPLE.match(line)) for line in rows)
        return "metrics_page" if rows[0] and fits >= 0.9 * len(rows) else ""

    def findings(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """The findings of pages, the worst first; rows with `skipped` name pages that could not be used."""
        rows, self.skipped = self._judge(inputs, options)
        yield from rows
        if len(self.skipped) < len(inputs):
            yield from ({"file": one.file, "skipped": one.reason} for one in self.skipped)

    def diagnose(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Verdict:
        rows, skipped = self._judge(inputs, options)
        return verdict_of(rows, {"pages": len(inputs) - len(skipped)}, skipped)

    def _judge(self, inputs: Sequence[Input], options: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[Skipped]]:
        try:
            names = aliases(options.get("names", ""))
        except AliasError as error:
            raise ValueError(str(error)) from error
        checks = Checks.read(options.get("checks", ""))
        streams: dict[str, list[_Read]] = {}
        skipped: list[Skipped] = []
        for given in inputs:
            page = _page(given)
            if isinstance(page, Skipped):
                skipped.append(page)
            else:
                streams.setdefault(page.stream, []).append(page)
        rows: list[dict[str, Any]] = []
        for pages in streams.values():
            rows += _of_stream(sorted(pages, key=_turn), names, checks, skipped)
        return in_order(rows), skipped


def _turn(page: _Read) -> tuple[float, tuple[int, str, int, str]]:
    return (page.at or 0.0, natural(re.sub(r"\.\w{1,8}$", "", page.given.name)))


def _page(given: Input) -> _Read | Skipped:
    try:
        with given.path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        return Skipped(given.name, error.strerror or str(error))
    if len(data) > MOST_BYTES:
        return Skipped(given.name, f"over {MOST_BYTES} bytes")
    text = data.decode("utf-8", "replace")
    first = next((line for line in text.split("\n") if line and line[0] != "#"), "")
    host = _HOST.search(text)
    self_ = _SELF.search(text)
    stem = re.sub(r"\d+", "", given.path.name)
    who = host.group(1) if host else (self_.group(1) or self_.group(2)) if self_ else f"{given.path.parent}/{stem}"
    epoch = _EPOCH.search(given.path.name)
    at = written_at(text) or (float(epoch.group(1)) if epoch else None)
    return _Read(given, text, f"{re.split('[_:{ ]', first)[0]} {who}", at, host.group(1) if host else "")


def _of_stream(pages: list[_Read], names: Mapping[str, Alias], checks: Checks, skipped: list[Skipped]) -> list[dict[str, Any]]:
    """Findings of one source's pages in their order; one page is one look, of several as many are asked for as there can be."""
    judge = Judge(checks, offline=True, patience=1 if len(pages) == 1 else max(1, len(pages) // 2))
    rows: dict[tuple[str, Target], dict[str, Any]] = {}
    timed = all(page.at is not None for page in pages)
    for number, page in enumerate(pages):
        places: Places = {}
        at = float(page.at) if timed and page.at is not None else _EVERY_S * number
        source = Page(page.stream, page.text, page.node)
        try:
            batches = list(parse_page(source, names=names, at=at, places=places))
        except PageError as error:
            skipped.append(Skipped(page.given.name, str(error).removeprefix(f"{page.stream}, ").removeprefix(f"{page.stream}: ")))
            continue
        for batch in batches:
            for claim in judge.look(batch):
                key = (claim.check.id, claim.target)
                if claim.cleared:
                    if key in rows:
                        rows[key]["cleared"] = True
                    continue
                line, text = places.get((claim.target, claim.signal), (0, ""))
                name = page.given.name if claim.target.kind is Kind.SOURCE else ""
                where = Where(page.given.name, line, text, _name(claim.target, name), page.at)
                rows[key] = row_of(claim, where)
    for standing in judge.claims():
        key = (standing.check.id, standing.target)
        if key in rows:
            rows[key]["count"] = max(1, standing.odd)
    return list(rows.values())


def _name(target: Target, file: str) -> str:
    """A port is known by its card, unless it is not the first of it."""
    return target.id.removesuffix(":1") if target.kind is Kind.NIC else file
