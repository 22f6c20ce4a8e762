"""Draws who waits for whom: an SVG of the wait-for graph, the culprits at the right and who waits for them to the left of them.

A small job is drawn rank by rank. Of a large one the culprits and the walk to them are; the rest are boxes of ranks that stand as far
away and wait in the same kind of operation, so that a thousand ranks fit on a page.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from detectors.tracehang.case import Case
from detectors.tracehang.waits import Graph, build
from detectors.tracehang.words import numbers, road
from holdfast.verdict import Json, Verdict

_MOST_SINGLE = 40
_MOST_CULPRITS = 24
_MOST_BOXES = 120
_MOST_WALKED = 4
_SAMPLE = 64
_SKETCH_SINGLE, _SKETCH_BOXES, _SKETCH_ARROWS, _SKETCH_CHARS = 16, 40, 80, 80
_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _EDGE, _TOP = 230, 48, 80, 12, 20, 54
_FILLS = {"culprit": "#f4b6b0", "walk": "#fbe3b4", "other": "#e8eef5", "free": "#eef3ea"}


@dataclass
class Box:
    """Ranks drawn as one. hops: from them to a culprit, 0 itself; text: what they do; role: how it is coloured"""

    hops: int
    text: str
    role: str
    ranks: list[int] = field(default_factory=list)

    def title(self) -> str:
        who = numbers(self.ranks)
        return f"rank{'s' if len(self.ranks) > 1 else ''} {who if len(who) < 30 else f'{who[:22]}… ({len(self.ranks)})'}"


def write_svg(case: Case, verdict: Verdict, path: str) -> None:
    """Write the drawing; raises ValueError: the file cannot be written."""
    try:
        Path(path).write_text(draw(build(case), case, verdict), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def sketch(case: Case, verdict: Verdict) -> dict[str, Json]:
    """The drawing in plain values, small enough to travel with a finding: the service's page draws it. {} where nobody waits.

    boxes: [column from the left, row, role, title, text]; arrows: [from, to, 1 on the walk else 0], both numbers of boxes
    """
    graph = build(case)
    boxes = _boxes(graph, case, verdict, single=_SKETCH_SINGLE, most=_SKETCH_BOXES)
    of_rank = {rank: n for n, box in enumerate(boxes) for rank in box.ranks}
    arrows = sorted(_arrows(graph, boxes, of_rank).items(), key=lambda row: not row[1])[:_SKETCH_ARROWS]
    if not arrows:
        return {}
    columns = sorted({box.hops for box in boxes}, reverse=True)
    rows = dict.fromkeys(columns, 0)
    shown: list[Json] = []
    for box in boxes:
        shown.append([columns.index(box.hops), rows[box.hops], box.role, box.title(), box.text[:_SKETCH_CHARS]])
        rows[box.hops] += 1
    return {"boxes": shown, "arrows": [[a, b, int(strong)] for (a, b), strong in arrows]}


def draw(graph: Graph, case: Case, verdict: Verdict) -> str:
    """The drawing, a few hundred boxes and arrows at the most."""
    boxes = _boxes(graph, case, verdict)
    of_rank = {rank: n for n, box in enumerate(boxes) for rank in box.ranks}
    columns = sorted({box.hops for box in boxes}, reverse=True)
    rows = dict.fromkeys(columns, 0)
    places = []
    for box in boxes:
        places.append((_EDGE + columns.index(box.hops) * (_BOX_W + _GAP_X), _TOP + rows[box.hops] * (_BOX_H + _GAP_Y)))
        rows[box.hops] += 1
    width = 2 * _EDGE + len(columns) * (_BOX_W + _GAP_X) - _GAP_X
    height = _TOP + max(rows.values(), default=1) * (_BOX_H + _GAP_Y) + _EDGE
    arrows = "".join(_arrow(places[a], places[b], strong) for (a, b), strong in _arrows(graph, boxes, of_rank).items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(width, 480)}" height="{height}" '
        f'viewBox="0 0 {max(width, 480)} {height}" font-family="sans-serif" font-size="11">'
        '<defs><marker id="to" markerWidth="8" markerHeight="8" refX="7" refY="3" orient="auto"><path d="M0,0 L7,3 L0,6 z" fill="#666"/>'
        f"</marker></defs>{_head(case, verdict)}{arrows}{''.join(map(_box, places, boxes))}</svg>\n"
    )


def _boxes(graph: Graph, case: Case, verdict: Verdict, *, single: int = _MOST_SINGLE, most: int = _MOST_BOXES) -> list[Box]:
    """The ranks in boxes, the farthest from a culprit first."""
    blamed = [int(c.id) for c in verdict.culprits if c.id.isdigit()]
    causes = {int(c.id): f"{c.cause}, {c.confidence:.2f}" for c in verdict.culprits if c.id.isdigit()}
    walked = {r for rank in blamed[:_MOST_WALKED] for edge in road(graph, rank) for r in (edge.waiter, edge.other)}
    hops = _hops(graph, blamed)
    far = max(hops.values(), default=0) + 1
    few = len(case.expected) <= single
    found: dict[tuple[object, ...], Box] = {}
    for rank in case.expected:
        role = "culprit" if rank in causes else "walk" if rank in walked else "other" if rank in hops else "free"
        away, text = hops.get(rank, far), causes.get(rank, "")
        alone = few or role == "walk" or rank in blamed[:_MOST_CULPRITS]
        kind = (away, role, text) if role == "culprit" else (away, role, _kind(case, rank))
        key = (rank,) if alone else kind
        found.setdefault(key, Box(away, text or (_doing(case, rank) if alone else _kind(case, rank)), role)).ranks.append(rank)
    kept = sorted(found.values(), key=lambda box: (-box.hops, box.role == "free", -len(box.ranks), box.ranks[0]))
    if len(kept) > most:
        rest = [box for box in kept if box.role in ("other", "free")][most // 2 :]
        kept = [box for box in kept if box not in rest]
        kept.insert(0, Box(far, "in other places", "free", [rank for box in rest for rank in box.ranks]))
    return kept


def _hops(graph: Graph, blamed: Iterable[int]) -> dict[int, int]:
    """How many waits lie between each rank and the nearest culprit; those that reach none are not in it."""
    hops = dict.fromkeys(blamed, 0)
    line = list(hops)
    for near in line:
        for edge in graph.into(near):
            if edge.waiter not in hops:
                hops[edge.waiter] = hops[near] + 1
                line.append(edge.waiter)
    return hops


def _doing(case: Case, rank: int) -> str:
    op, stack = case.pending(rank), case.stacks.get(rank)
    if op is not None:
        return f"{op.name} #{op.seq}, {case.describe(op.group)}"
    return str(stack.frames[0]) if stack else "no dump" if rank not in case.recordings else "nothing pending"


def _kind(case: Case, rank: int) -> str:
    """The same without what differs from group to group."""
    op = case.pending(rank)
    if op is None:
        return _doing(case, rank)
    return f"{op.name.split(' ')[0]}, {case.descriptions.get(op.group, '') or op.group}"


def _arrows(graph: Graph, boxes: list[Box], of_rank: Mapping[int, int]) -> dict[tuple[int, int], bool]:
    """Which box waits for which; whether the arrow is part of the walk."""
    found: dict[tuple[int, int], bool] = {}
    for n, box in enumerate(boxes):
        for rank in box.ranks[:_SAMPLE]:
            for edge in graph.edges(rank):
                other = of_rank.get(edge.other)
                if other is not None and other != n and boxes[other].hops <= box.hops:
                    strong = box.role == "walk" and boxes[other].role in ("walk", "culprit")
                    found[n, other] = found.get((n, other), False) or strong
    return found


def _head(case: Case, verdict: Verdict) -> str:
    who = ", ".join(f"rank {c.id} ({c.cause})" for c in verdict.culprits[:4]) or verdict.verdict.value
    more = f" and {len(verdict.culprits) - 4} more" if len(verdict.culprits) > 4 else ""
    why = str(verdict.detail.get("why", ""))
    return (
        f'<text x="{_EDGE}" y="20" font-size="14" font-weight="bold">{escape(who + more)}</text>'
        f'<text x="{_EDGE}" y="38" fill="#444">{len(case.expected)} ranks; {escape(why[:160])}</text>'
    )


def _box(at: tuple[int, int], box: Box) -> str:
    x, y = at
    text = box.text if len(box.text) <= 38 else f"{box.text[:37]}…"
    return (
        f"<g><title>{escape(f'{box.title()}: {box.text}')}</title>"
        f'<rect x="{x}" y="{y}" width="{_BOX_W}" height="{_BOX_H}" rx="4" fill="{_FILLS[box.role]}" stroke="#555"/>'
        f'<text x="{x + 8}" y="{y + 19}" font-weight="bold">{escape(box.title())}</text>'
        f'<text x="{x + 8}" y="{y + 36}">{escape(text)}</text></g>'
    )


def _arrow(start: tuple[int, int], end: tuple[int, int], strong: bool) -> str:
    (x1, y1), (x2, y2) = start, end
    y1, y2 = y1 + _BOX_H // 2, y2 + _BOX_H // 2
    x1, x2 = (x1 + _BOX_W, x2) if x1 < x2 else (x1, x2 + _BOX_W) if x1 > x2 else (x1 + _BOX_W, x2 + _BOX_W)
    look = 'stroke="#b03a2e" stroke-width="2"' if strong else 'stroke="#999"'
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {look} marker-end="url(#to)"/>'
