"""Draws who waits for whom: an SVG of the wait-for graph, ranks in columns by how far they stand from the culprit."""

from html import escape
from pathlib import Path

from detectors.tracehang.case import Case
from detectors.tracehang.judge import judge
from detectors.tracehang.waits import Graph, build
from holdfast.verdict import Verdict

_MOST_RANKS = 256
_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _EDGE = 150, 34, 90, 12, 20


def write_svg(case: Case, path: str) -> None:
    """Write the drawing; raises ValueError: the file cannot be written."""
    try:
        Path(path).write_text(draw(build(case), case, judge(case)), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def draw(graph: Graph, case: Case, verdict: Verdict) -> str:
    """The drawing: a box a rank, the culprits red and at the right, an arrow from who waits to whom it waits for."""
    blamed = {int(c.id) for c in verdict.culprits if c.id.isdigit()}
    columns = _columns(graph, case, blamed)
    places = {rank: (x, y) for x, ranks in enumerate(columns) for y, rank in enumerate(ranks)}
    width = 2 * _EDGE + len(columns) * (_BOX_W + _GAP_X) - _GAP_X
    height = 2 * _EDGE + max(map(len, columns), default=1) * (_BOX_H + _GAP_Y)
    arrows = "".join(_arrow(places[r], places[o]) for r in places for o in _others(graph, r) if o in places)
    boxes = "".join(_box(places[r], r, _doing(case, r), r in blamed) for r in places)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
        '<defs><marker id="to" markerWidth="8" markerHeight="8" refX="7" refY="3" orient="auto"><path d="M0,0 L7,3 L0,6 z" fill="#777"/>'
        f"</marker></defs>{arrows}{boxes}</svg>\n"
    )


def _columns(graph: Graph, case: Case, blamed: set[int]) -> list[list[int]]:
    """Ranks by hops to a culprit, the farthest first; those that reach none stand at the left."""
    ranks = case.expected[:_MOST_RANKS]
    hops = dict.fromkeys(blamed & set(ranks), 0)
    line = list(hops)
    while line:
        near = line.pop(0)
        for edge in graph.into(near):
            if edge.waiter not in hops and edge.waiter in ranks:
                hops[edge.waiter] = hops[near] + 1
                line.append(edge.waiter)
    far = max(hops.values(), default=0) + 1
    by_hops: dict[int, list[int]] = {}
    for rank in ranks:
        by_hops.setdefault(hops.get(rank, far), []).append(rank)
    return [by_hops[n] for n in sorted(by_hops, reverse=True)]


def _others(graph: Graph, rank: int) -> list[int]:
    return sorted({edge.other for edge in graph.edges(rank)})


def _doing(case: Case, rank: int) -> str:
    op, stack = case.pending(rank), case.stacks.get(rank)
    if op is not None:
        return f"{op.name} #{op.seq}"
    return str(stack.frames[0]) if stack else "no dump" if rank not in case.recordings else "nothing pending"


def _place(at: tuple[int, int]) -> tuple[int, int]:
    return _EDGE + at[0] * (_BOX_W + _GAP_X), _EDGE + at[1] * (_BOX_H + _GAP_Y)


def _box(at: tuple[int, int], rank: int, text: str, blamed: bool) -> str:
    x, y = _place(at)
    fill = "#f4b6b0" if blamed else "#e8eef5"
    return (
        f'<g><title>rank {rank}: {escape(text)}</title><rect x="{x}" y="{y}" width="{_BOX_W}" height="{_BOX_H}" rx="4" fill="{fill}" '
        f'stroke="#555"/><text x="{x + 6}" y="{y + 14}" font-weight="bold">rank {rank}</text>'
        f'<text x="{x + 6}" y="{y + 28}">{escape(text[:24])}</text></g>'
    )


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x1, y1), (x2, y2) = _place(start), _place(end)
    y1, y2 = y1 + _BOX_H // 2, y2 + _BOX_H // 2
    x1, x2 = (x1 + _BOX_W, x2) if x1 < x2 else (x1, x2 + _BOX_W) if x1 > x2 else (x1 + _BOX_W, x2 + _BOX_W)
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#777" marker-end="url(#to)"/>'
