"""What waits for what in a trace: order on a rank, meetings of ranks in a communication, as a graph cut into levels."""

from dataclasses import dataclass

import numpy as np

from detectors.traceslow.trace import Operations, TraceError

# Clocks of one rank agree to about this: an operation may seem to begin so much before the one it waited for ended.
EPS_S = 1e-4
# An operation that runs beside computation in more than this part of its occurrences does not hold it up.
_BESIDE = 0.1
# The longest chain of operations that wait for one another; a step of a real job has some thousand.
MOST_LEVELS = 200_000
# Numbers up to here are multiplied by a count of rows without overflow.
_SMALL = 1 << 31

# Point to point operation -> its direction, and where its pair's lower stage stands seen from it.
_P2P = {
    "forward-send": ("forward", 0),
    "forward-recv": ("forward", -1),
    "backward-send": ("backward", -1),
    "backward-recv": ("backward", 0),
    "forward-send-backward-recv": ("both", 0),
    "backward-send-forward-recv": ("both", -1),
}
_COLLECTIVE = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "broadcast", "barrier", "allreduce", "allgather", "clip")
COMPUTE = ("forward-compute", "backward-compute")


def is_communication(name: str) -> bool:
    """Whether ranks meet in an operation of this name."""
    return name in _P2P or any(word in name for word in _COLLECTIVE)


def is_p2p(name: str) -> bool:
    """Whether it is a send or a receive."""
    return name in _P2P


@dataclass(frozen=True, kw_only=True)
class Meetings:
    """Who meets whom. All int64, shape (n,), -1 for an operation that meets nobody.

    meeting: number of the meeting; channel: number of the set of ranks that meets, the same in every step
    """

    meeting: np.ndarray
    channel: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Levels:
    """A graph in an order in which every node stands behind those it waits for.

    place: node -> its place in the order; bounds: first place of each level; edges: places waited for, grouped by who waits;
    offsets: for each place its first edge; loose: meetings that could not be kept (they would wait for one another)
    """

    place: np.ndarray
    bounds: np.ndarray
    edges: np.ndarray
    offsets: np.ndarray
    loose: int


def number(*columns: np.ndarray) -> np.ndarray:
    """One dense number from 0 for each different row of some columns of integers (-1 or more)."""
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        shifted = column - column.min(initial=0)
        if shifted.max(initial=0) > _SMALL:
            shifted = np.unique(column, return_inverse=True)[1]
        code = code * (int(shifted.max(initial=0)) + 1) + shifted
        code = np.unique(code, return_inverse=True)[1]
    return code


def ordinal(*columns: np.ndarray) -> np.ndarray:
    """For each row, how many rows before it are equal in these columns."""
    code = number(*columns)
    order = np.argsort(code, kind="stable")
    first = np.searchsorted(code[order], code[order], side="left")
    out = np.empty(len(code), dtype=np.int64)
    out[order] = np.arange(len(code)) - first
    return out


def meetings(ops: Operations) -> Meetings:
    """Pair sends with receives by stage, direction and turn; collectives by their group and turn.

    A group that the trace names is believed; else the operation's name tells which ranks take part.
    """
    turn = _turn(ops)
    dp, pp, tp = ops.dp[ops.rank], ops.pp[ops.rank], ops.tp[ops.rank]
    last = int(ops.pp.max())
    scope = np.full((len(ops.op), 5), -1)  # family, and coordinates that the members share
    for code, name in enumerate(ops.names):
        rows = np.flatnonzero(ops.op == code)
        if name in _P2P:
            way, lower = _P2P[name]
            family = -2 - ("forward", "backward", "both").index(way)
            scope[rows] = np.stack(
                [np.full(len(rows), family), (pp[rows] + lower) % (last + 1), dp[rows], tp[rows], np.zeros_like(rows)], axis=1
            )
        elif is_communication(name):
            shared = _shared(name, ops, rows)
            part = [np.where(keep, at[rows], 0) for keep, at in zip(shared, (pp, dp, tp), strict=True)]
            scope[rows] = np.stack([np.full(len(rows), code), *part, _own_group(ops, rows)], axis=1)
    meets = np.isin(ops.op, [n for n, name in enumerate(ops.names) if is_communication(name)])
    meeting, channel = np.full(len(ops.op), -1), np.full(len(ops.op), -1)
    key = scope[meets].T
    meeting[meets] = number(ops.step[meets], turn[meets], *key)
    # one link carries both directions
    channel[meets] = number(np.where(key[0] < -1, -2, key[0]), *key[1:])
    return Meetings(meeting=meeting, channel=channel)


def _turn(ops: Operations) -> np.ndarray:
    """Which occurrence of its operation each row is, so that partners have the same: as numbered in the trace, else counted.

    Numbers and micro-batches that the trace tells are believed, so that a row that is missing moves no other; numbers that
    count all operations of a rank together say nothing of its partner's.
    """
    turn = ordinal(ops.step, ops.rank, ops.op)
    for code in range(len(ops.names)):
        rows = np.flatnonzero(ops.op == code)
        seq, batch = ops.seq[rows], ops.microbatch[rows]
        if len(rows) and seq.min() == 0 and int(seq.max()) <= 1.05 * int(turn[rows].max()) + 1:
            if ordinal(ops.step[rows], ops.rank[rows], seq).max() == 0:
                turn[rows] = seq
        elif len(rows) and is_p2p(ops.names[code]) and batch.min() >= 0:
            again = ordinal(ops.step[rows], ops.rank[rows], batch)
            turn[rows] = again * (int(batch.max()) + 1) + batch
    return turn


def _shared(name: str, ops: Operations, rows: np.ndarray) -> tuple[bool, bool, bool]:
    """Which of (pp, dp, tp) the members of a collective have in common, by its name or by a group called after a dimension."""
    told = {ops.groups[g] for g in np.unique(ops.group[rows]) if g >= 0}
    if told and told <= {"tp", "tensor"}:
        return True, True, False
    if told and told <= {"pp", "pipeline"}:
        return False, True, True
    if told and not told <= {"dp", "data"}:
        return False, False, False  # the group itself tells
    if "embedding" in name:
        return False, True, True
    if "layernorm" in name or name.startswith(("tp-", "tensor-")):
        return True, True, False
    if "clip" in name or "barrier" in name or "world" in name:
        return False, False, False
    return True, False, True


def _own_group(ops: Operations, rows: np.ndarray) -> np.ndarray:
    dimensions = [n for n, name in enumerate(ops.groups) if name in ("tp", "tensor", "pp", "pipeline", "dp", "data")]
    return np.where(np.isin(ops.group[rows], dimensions), -1, ops.group[rows])


def level(ops: Operations, met: Meetings) -> Levels:
    """The graph of the whole trace, every step for itself.

    Nodes: operations [0, n), then meetings, then gates. A gate opens when all is finished that a rank finished before it
    went on. Meetings that wait for one another in a circle, which a true trace has not, are let go.

    raises TraceError: the longest chain has over `MOST_LEVELS` nodes
    """
    n = len(ops.op)
    meeting, loose, waited = met.meeting.copy(), 0, True
    while True:
        edges, nodes = _edges(ops, meeting, waited=waited)
        depth = _depths(edges, nodes)
        caught = (depth[:n] < 0) & (meeting >= 0)
        if (depth >= 0).all():
            return _ordered(edges, depth, loose)
        waited = waited and bool(caught.any())
        loose += len(np.unique(meeting[caught]))
        meeting[caught] = -1


@dataclass(frozen=True, kw_only=True)
class _Turns:
    """line: of each operation, one rank in one step; clock: its start, on one axis for all lines; rows are in that order

    chain: rows that a rank runs in turn; side: rows that run beside its computation
    """

    line: np.ndarray
    clock: np.ndarray
    chain: np.ndarray
    side: np.ndarray


def _edges(ops: Operations, meeting: np.ndarray, *, waited: bool) -> tuple[np.ndarray, int]:
    """Edges (from, to), shape (2, e), and the number of nodes. waited: keep who waits for what runs beside computation."""
    n, meets = len(ops.op), int(meeting.max(initial=-1)) + 1
    line = number(ops.step, ops.rank)
    clock = _clock(ops, line)
    beside = _runs_beside(ops, clock)
    turns = _Turns(line=line, clock=clock, chain=np.flatnonzero(~beside), side=np.flatnonzero(beside))
    within, batches = _gates(ops, turns)
    gate = n + meets + within
    target = np.where(meeting < 0, np.arange(n), n + meeting)
    met = np.flatnonzero(meeting >= 0)
    found = [
        np.stack([gate[turns.chain], gate[turns.chain] + 1]),
        np.stack([turns.chain, gate[turns.chain] + 1]),
        np.stack([gate, target]),
        np.stack([n + meeting[met], met]),
    ]
    if waited:
        found.extend(_beside_edges(ops, turns, target, gate))
    return np.concatenate(found, axis=1), n + meets + batches + int(line.max()) + 1


def _gates(ops: Operations, turns: _Turns) -> tuple[np.ndarray, int]:
    """The gate behind which each operation runs, and how many batches there are.

    Each line has a gate before each of its batches and one behind the last.
    """
    line, chain, side = turns.line, turns.chain, turns.side
    batch = _batches(ops, line[chain], chain)
    batches = int(batch.max(initial=-1)) + 1
    gate = np.empty(len(line), dtype=np.int64)
    gate[chain] = batch + line[chain]
    ends = np.full(batches, -np.inf)
    np.maximum.at(ends, batch, turns.clock[chain] + ops.duration_s[chain])
    finished = np.searchsorted(np.maximum.accumulate(ends), turns.clock[side] + EPS_S, side="right")
    gate[side] = np.clip(finished, *_range(line[chain], batch, line[side])) + line[side]
    return gate, batches


def _clock(ops: Operations, line: np.ndarray) -> np.ndarray:
    """Starts on one axis on which each line has a stretch of its own, so that one search serves all lines."""
    begun = np.full(int(line.max()) + 1, np.inf)
    np.minimum.at(begun, line, ops.start_s)
    within = ops.start_s - begun[line]
    return np.asarray(within + line * (float((within + ops.duration_s).max()) + 1.0))


def _runs_beside(ops: Operations, clock: np.ndarray) -> np.ndarray:
    """Which operations do not hold up computation: kinds of which many occurrences have computation going on beside them."""
    compute = np.isin(ops.op, [n for n, name in enumerate(ops.names) if name in COMPUTE])
    begins, ends = clock[compute], (clock + ops.duration_s)[compute]
    if not len(begins):
        return np.zeros(len(clock), dtype=bool)
    before = np.searchsorted(begins, clock + EPS_S) - 1
    after = np.minimum(before + 1, len(begins) - 1)
    shared = np.where(before >= 0, ends[before], -np.inf) > clock + EPS_S
    shared |= (begins[after] > clock) & (begins[after] < clock + ops.duration_s - EPS_S)
    shared &= ~compute & (ops.duration_s > EPS_S)
    times = np.bincount(ops.op, weights=ops.duration_s > EPS_S, minlength=len(ops.names))
    often = np.bincount(ops.op, weights=shared, minlength=len(ops.names)) > _BESIDE * times
    return np.asarray(often[ops.op] & ~compute)


def _batches(ops: Operations, line: np.ndarray, chain: np.ndarray) -> np.ndarray:
    """Number the batches of what a rank does in turn: communications under way together are one batch."""
    meets = np.array([is_communication(name) for name in ops.names])[ops.op[chain]]
    start, end = ops.start_s[chain], (ops.start_s + ops.duration_s)[chain]
    new = np.ones(len(chain), dtype=bool)
    new[1:] = (line[1:] != line[:-1]) | (start[1:] >= end[:-1] - EPS_S) | ~(meets[1:] & meets[:-1])
    new[1:] |= ops.op[chain][1:] == ops.op[chain][:-1]
    return np.cumsum(new) - 1


def _range(line: np.ndarray, batch: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First batch of each asked line, and the one after its last. line, batch: ascending."""
    behind = np.concatenate([[0], batch + 1])
    return behind[np.searchsorted(line, asked, side="left")], behind[np.searchsorted(line, asked, side="right")]


# What runs beside computation is waited for by the next of these; a send by nobody, the rest by what is no computation.
_WAITS = {"forward-recv": "forward-compute", "backward-recv": "backward-compute", "params-all-gather": "forward-compute"}


def _beside_edges(ops: Operations, turns: _Turns, target: np.ndarray, gate: np.ndarray) -> list[np.ndarray]:
    """Edges from operations beside the chain: to the gate of who needs them, and to the next of their own kind."""
    line, clock, chain, side = turns.line, turns.clock, turns.chain, turns.side
    found = []
    for code in np.unique(ops.op[side]).tolist():
        rows = side[ops.op[side] == code]
        ends = (clock + ops.duration_s)[rows]
        follows = (line[rows[1:]] == line[rows[:-1]]) & (ends[:-1] <= clock[rows[1:]])
        found.append(np.stack([rows[:-1][follows], target[rows[1:]][follows]]))
        name = ops.names[code]
        wanted = [n for n, other in enumerate(ops.names) if other == _WAITS.get(name) or (name not in _WAITS and other not in COMPUTE)]
        users = chain[np.isin(ops.op[chain], wanted)]
        if name.endswith("-send") or not len(users):
            continue
        at = np.searchsorted(clock[users], ends)
        user = users[np.minimum(at, len(users) - 1)]
        waits = (at < len(users)) & (line[user] == line[rows])
        found.append(np.stack([rows[waits], gate[user[waits]]]))
    return found


def _depths(edges: np.ndarray, nodes: int) -> np.ndarray:
    """The level of each node: one more than the deepest it waits for; -1 for what waits in a circle, and behind one."""
    order = np.argsort(edges[0], kind="stable")
    to = edges[1][order]
    first = np.searchsorted(edges[0][order], np.arange(nodes + 1))
    open_edges = np.bincount(edges[1], minlength=nodes)
    depth = np.full(nodes, -1)
    front, now = np.flatnonzero(open_edges == 0), 0
    while len(front):
        if now > MOST_LEVELS:
            raise TraceError(f"a chain of over {MOST_LEVELS} operations that wait for one another")
        depth[front] = now
        counts = first[front + 1] - first[front]
        spread = np.repeat(first[front] - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
        reached, times = np.unique(to[spread], return_counts=True)
        open_edges[reached] -= times
        front, now = reached[open_edges[reached] == 0], now + 1
    return depth


def _ordered(edges: np.ndarray, depth: np.ndarray, loose: int) -> Levels:
    order = np.argsort(depth, kind="stable")
    place = np.empty(len(depth), dtype=np.int64)
    place[order] = np.arange(len(depth))
    by_target = np.argsort(place[edges[1]], kind="stable")
    return Levels(
        place=place,
        bounds=np.searchsorted(depth[order], np.arange(int(depth.max()) + 2)),
        edges=place[edges[0][by_target]],
        offsets=np.searchsorted(place[edges[1][by_target]], np.arange(len(depth) + 1)),
        loose=loose,
    )
