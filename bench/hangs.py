"""Hangs drawn from seeds: layouts, causes and what is left of the evidence, written to a folder as an operator would have saved it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.random import Generator

from holdfast.faults import HangCause, Judgement
from simulator.chance import stream
from simulator.evidence.acts import Act, Model, Op
from simulator.evidence.groups import WORLD, Layout
from simulator.evidence.program import programs
from simulator.evidence.scene import Muddle, Recording, Scene
from simulator.evidence.stall import CAUSES, HOST, MISMATCH, UNPAIRED, Kind, Stall, places
from simulator.evidence.stand import Stand

CASES: tuple[Kind | Muddle, ...] = (*Kind, *Muddle)
_TRIES = 40
_LOST = 0.1  # of the dumps
_VERSIONS = ("2.4", "2.5", "2.6", "2.7", "2.8", "2.9", "2.10")
_HIDDEN = frozenset({Kind.DEVICE_BEFORE, Kind.NETWORK})
# What an operator may have saved beside the dumps.
_SAVED = ((), ("stacks",), ("processes",), ("stacks", "processes"), ("stacks", "processes", "about", "ras", "devices"))


@dataclass(frozen=True, kw_only=True)
class Hang:
    """A hang to be judged. saved: kinds of evidence beside the dumps; lost: rank -> share of its dump that is left, 0.0 for no file"""

    seed: int
    case: Kind | Muddle
    stand: Stand
    saved: tuple[str, ...]
    json: bool
    lost: dict[int, float]

    @property
    def verdicts(self) -> frozenset[Judgement]:
        """Answers that are right."""
        truth = self.stand.truth
        right = {truth.verdict}
        if self._kinds & _HIDDEN or any(self._unseen(rank) for rank in truth.causes):
            right.add(Judgement.UNDECIDED)  # the evidence does not reach
        return frozenset(right)

    @property
    def needed(self) -> frozenset[int]:
        """Culprits that must be named; one of which everything telling is lost may be left out."""
        return frozenset(rank for rank in self.stand.truth.causes if not self._unseen(rank))

    @property
    def _kinds(self) -> set[Kind]:
        return {self.stand.course.stalls[rank].kind for rank in self.stand.truth.causes}

    def _unseen(self, rank: int) -> bool:
        """Whether what would show a culprit is lost: its dump, or all there is of a process that cannot give one."""
        silent = not self.stand.answers(rank)
        kind = self.stand.course.stalls[rank].kind
        if kind in HOST:
            return (silent or rank in self.lost) and not {"stacks", "processes"} & set(self.saved)
        return rank in self.lost

    def causes(self, rank: int) -> frozenset[HangCause]:
        """Causes that are right for a culprit."""
        stall = self.stand.course.stalls[rank]
        right = {CAUSES[stall.kind]}
        acts = self.stand.course.line(rank).acts[stall.at :]
        following = next((act for act in acts if act.talks), None)
        if stall.kind in HOST and following is not None and following.parts:
            right |= {HangCause.MISSING_SEND, HangCause.MISSING_RECV}  # its peers miss a transfer: no less true
        if self._unseen(rank):
            right.add(HangCause.NO_DUMP)
        if stall.kind in (Kind.STOPPED, Kind.GONE) and "processes" not in self.saved:
            right |= {HangCause.NO_DUMP} | ({HangCause.HOST_STUCK} if stall.kind is Kind.STOPPED else set())
        return frozenset(right)


def draw(seed: int, most_ranks: int = 1024) -> Hang:
    """The hang of a seed; every case comes once in so many seeds as there are cases. most_ranks: at most so many"""
    case = CASES[seed % len(CASES)]
    for turn in range(_TRIES):
        rng = stream(seed, "hang", turn)
        scene = _scene(seed, case, rng, most_ranks)
        if scene is None:
            continue
        stand = Stand(scene)
        wanted = {stall.rank for stall in scene.stalls}
        if stand.course.has_hung and set(stand.truth.causes) == wanted:
            saved = _SAVED[int(rng.integers(len(_SAVED)))]
            lost = _lost(seed, scene.layout.world)
            return Hang(seed=seed, case=case, stand=stand, saved=saved, json=bool(rng.random() < 0.15), lost=lost)
    raise RuntimeError(f"seed {seed}: no hang by {case} in {_TRIES} layouts")


def _scene(seed: int, case: Kind | Muddle, rng: Generator, most_ranks: int) -> Scene | None:
    layout = _layout(rng, most_ranks)
    if layout is None:
        return None
    experts = int(rng.choice([8, 16])) * layout.ep if layout.ep > 1 else 0
    model = Model(
        layers=int(rng.integers(1, 4)), micro_batches=int(rng.integers(2, 9)), experts=experts,
        batched_transfers=bool(rng.random() < 0.4), overlapped_gradients=bool(rng.random() < 0.7),
    )  # fmt: skip
    saves = case is Kind.STORAGE
    step = 20 * int(rng.integers(1, 20)) - 1 if saves else 20 * int(rng.integers(0, 20)) + int(rng.integers(2, 15))
    acts = programs(layout, model, saves=saves)
    if isinstance(case, Muddle):
        muddle = _muddle(case, layout, acts, rng)
        return (
            _whole(seed, rng, layout, model, step=0 if case is Muddle.CROSSED else step, muddle=muddle)
            if muddle
            else None
        )
    stalls = _stalls(case, layout, acts, rng)
    return _whole(seed, rng, layout, model, step=step, stalls=stalls) if stalls else None


def _whole(
    seed: int, rng: Generator, layout: Layout, model: Model, *, step: int, stalls: tuple[Stall, ...] = (),
    muddle: tuple[Muddle, int, int] | None = None,
) -> Scene:  # fmt: skip
    count = 1 if rng.random() < 0.8 else 2
    recording = Recording(
        versions=tuple(str(v) for v in rng.choice(_VERSIONS, count, replace=False)), ring=int(rng.choice([100, 300, 1000, 2000])),
        only_active=bool(rng.random() < 0.25), timing=bool(rng.random() < 0.25), frames=bool(rng.random() < 0.1),
    )  # fmt: skip
    skew_s = float(rng.choice([0.0, 0.05, 5.0]))
    return Scene(
        layout=layout,
        model=model,
        stalls=stalls,
        muddle=muddle,
        recording=recording,
        seed=seed,
        step=step,
        skew_s=skew_s,
    )


def _layout(rng: Generator, most_ranks: int) -> Layout | None:
    tp, pp, cp = (int(rng.choice(sizes)) for sizes in ((1, 2, 4, 8), (1, 2, 4, 8), (1, 1, 1, 2)))
    world = 2 ** int(rng.integers(4, most_ranks.bit_length()))
    if world // (tp * pp * cp) < 2:
        return None
    dp = world // (tp * pp * cp)
    if rng.random() < 0.3 and dp % 2 == 0 and 16 <= 3 * world // 2 <= most_ranks:
        dp = 3 * dp // 2  # not everything is a power of two
    ep = int(rng.choice([2, 4, 8])) if rng.random() < 0.3 else 1
    order = "tp-cp-ep-dp-pp" if ep > 1 or cp > 1 or rng.random() < 0.8 else "tp-cp-ep-pp-dp"
    return Layout(dp=dp, tp=tp, pp=pp, cp=cp, ep=ep if (dp * cp) % ep == 0 else 1, order=order)


def _stalls(kind: Kind, layout: Layout, acts: Sequence[tuple[Act, ...]], rng: Generator) -> tuple[Stall, ...]:
    """One to three ranks of one stage, at one act, in different groups of it."""
    rank = int(rng.integers(layout.world))
    program = acts[layout.stage(rank)]
    found = [at for at in places(program, kind) if kind not in MISMATCH or layout.size(program[at].group) >= 3]
    if not found or (kind in UNPAIRED and layout.pp == 1):
        return ()
    at = int(rng.choice(found))
    group = next((act.group for act in program[at:] if act.talks), WORLD)
    count = (1, 1, 2, 3)[int(rng.integers(4))]
    ranks, met = [rank], {_name(layout, rank, group)}
    for other in rng.permutation(layout.world).tolist()[:200]:
        name = _name(layout, other, group)
        if len(ranks) < count and layout.stage(other) == layout.stage(rank) and name not in met:
            ranks.append(other)
            met.add(name)
    return tuple(Stall(r, kind, at) for r in sorted(ranks))


def _name(layout: Layout, rank: int, desc: str) -> str:
    group = layout.group(rank, desc)
    return group.name if group else ""


def _muddle(
    case: Muddle, layout: Layout, acts: Sequence[tuple[Act, ...]], rng: Generator
) -> tuple[Muddle, int, int] | None:
    rank = int(rng.integers(layout.world))
    program = acts[layout.stage(rank)]
    if case is Muddle.CROSSED:
        # a stage that has a next one, the first time it sends there
        found = [n for n, act in enumerate(program) if any(p.sends and p.peer > layout.stage(rank) for p in act.parts)]
        return (case, rank, found[0]) if found and len(program[found[0]].parts) == 1 else None
    found = [n for n in places(program, Kind.OTHER_OP) if layout.size(program[n].group) >= 4]
    return (case, rank, int(rng.choice(found))) if found else None


def _lost(seed: int, world: int) -> dict[int, float]:
    """Dumps that are missing or cut off."""
    rng = stream(seed, "lost")
    ranks = [rank for rank in range(world) if rng.random() < _LOST]
    return {rank: 0.0 if rng.random() < 0.5 else float(rng.uniform(0.0, 0.95)) for rank in ranks}


def files(hang: Hang) -> Iterator[tuple[str, bytes]]:
    """Names and contents of what is saved."""
    stand, layout = hang.stand, hang.stand.scene.layout
    text = hang.seed % 2 == 1
    for rank in range(layout.world):
        data = stand.recorder_json(rank) if hang.json else stand.recorder(rank)
        left = hang.lost.get(rank, 1.0)
        if data and left > 0.0:
            yield f"trace_rank_{rank}{'.json' if hang.json else ''}", data[: int(len(data) * left)]
        stack = (stand.stack_text(rank) if text else stand.stack(rank)) if "stacks" in hang.saved else b""
        if stack:
            yield f"stacks_rank{rank}.{'txt' if text else 'json'}", stack
        if "about" in hang.saved and stand.process(rank).state != "X":
            yield f"rank{rank}.json", stand.about(rank)
    if "processes" in hang.saved:
        for node in range(layout.node(layout.world - 1) + 1):
            host = stand.scene.node(node * layout.per_node)
            yield f"processes_{host}.json", stand.processes(node)
            if "devices" in hang.saved:
                yield f"nvidia-smi_{host}.csv", stand.query_gpu(node)
    if "ras" in hang.saved:
        yield "ras.json", stand.ras()


def write(hang: Hang, folder: Path) -> int:
    """Write a hang's evidence; returns its size in bytes."""
    size = 0
    for name, data in files(hang):
        (folder / name).write_bytes(data)
        size += len(data)
    return size


def describe(hang: Hang) -> str:
    """The hang in a line."""
    scene = hang.stand.scene
    layout = scene.layout
    sizes = " ".join(f"{n}{getattr(layout, n)}" for n in ("dp", "tp", "pp", "cp", "ep") if getattr(layout, n) > 1)
    at = {scene.stalls[0].at} if scene.stalls else {scene.muddle[2]} if scene.muddle else set()
    acts = hang.stand.course.plain[layout.stage(scene.stalls[0].rank)] if scene.stalls else ()
    where = next((f"{acts[n].op.value} {acts[n].group}" for n in at if n < len(acts) and acts[n].op is not Op.SAVE), "")
    form = "only active, " if scene.recording.only_active else ""
    return (
        f"{hang.case}, {layout.world} ranks ({sizes}), {form}ring {scene.recording.ring}, beside dumps: "
        f"{', '.join(hang.saved) or 'nothing'}; {where}"
    )
