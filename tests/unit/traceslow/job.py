"""A job of pipelines (1F1B) over data ranks, played operation by operation, with what slows it put in by hand."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

FORWARD_S, BACKWARD_S, TRANSFER_S, REDUCE_S, OPTIMIZER_S = 0.020, 0.040, 0.001, 0.010, 0.004
HEADER = ("step", "rank", "dp", "pp", "tp", "op", "start_s", "duration_s", "seq", "microbatch")

Row = tuple[int, int, int, int, int, str, float, float, int, int]


@dataclass(frozen=True)
class Op:
    """What is about to run: `microbatch` is -1 where there is none."""

    step: int
    dp: int
    pp: int
    name: str
    microbatch: int


def unchanged(op: Op, seconds: float) -> float:
    return seconds


@dataclass
class Job:
    """change: what an operation really takes. A transfer's length is that of its sender.

    pauses: step, dp, pp -> operations before the first forward, (name, seconds)
    """

    dp: int = 4
    pp: int = 4
    microbatches: int = 8
    steps: int = 12
    noise: float = 0.01
    seed: int = 0
    change: Callable[[Op, float], float] = unchanged
    pauses: Callable[[int, int, int], list[tuple[str, float]]] = lambda step, dp, pp: []
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = np.random.Generator(np.random.Philox(self.seed))

    def play(self) -> "Job":
        for step in range(self.steps):
            self._step(step)
        return self

    def rank(self, dp: int, pp: int) -> int:
        return pp * self.dp + dp

    def _takes(self, op: Op, seconds: float) -> float:
        return self.change(op, seconds) * float(1.0 + self.noise * abs(self._chance.standard_normal()))

    def _step(self, step: int) -> None:
        done = {(dp, pp): 0.0 for dp in range(self.dp) for pp in range(self.pp)}
        for dp, pp in done:
            for name, seconds in self.pauses(step, dp, pp):
                done[dp, pp] = self._add(step, dp, pp, name, done[dp, pp], seconds, -1)
        for dp in range(self.dp):
            self._pipeline(step, dp, done)
        for pp in range(self.pp):
            self._meet(step, pp, "grads-reduce-scatter", REDUCE_S, done)
        for dp, pp in done:
            op = Op(step, dp, pp, "optimizer", -1)
            done[dp, pp] = self._add(step, dp, pp, op.name, done[dp, pp], self._takes(op, OPTIMIZER_S), -1)

    def _meet(self, step: int, pp: int, name: str, seconds: float, done: dict[tuple[int, int], float]) -> None:
        takes = max(self.change(Op(step, dp, pp, name, -1), seconds) for dp in range(self.dp))
        end = max(done[dp, pp] for dp in range(self.dp)) + takes
        for dp in range(self.dp):
            self._add(step, dp, pp, name, done[dp, pp], end - done[dp, pp], -1)
            done[dp, pp] = end

    def _pipeline(self, step: int, dp: int, done: dict[tuple[int, int], float]) -> None:
        """One pipeline: each stage runs its list; a transfer begins at its later side and holds up both."""
        lists = [self._list(pp) for pp in range(self.pp)]
        at = [0] * self.pp
        while any(n < len(todo) for n, todo in zip(at, lists, strict=True)):
            for pp in range(self.pp):
                while at[pp] < len(lists[pp]):
                    name, batch = lists[pp][at[pp]]
                    if name.endswith("compute"):
                        op = Op(step, dp, pp, name, batch)
                        usual = FORWARD_S if name == "forward-compute" else BACKWARD_S
                        done[dp, pp] = self._add(step, dp, pp, name, done[dp, pp], self._takes(op, usual), batch)
                    elif not self._transfer(step, dp, pp, name, batch, lists, at, done):
                        break
                    at[pp] += 1

    def _transfer(
        self, step: int, dp: int, pp: int, name: str, batch: int, lists: list[list[tuple[str, int]]], at: list[int],
        done: dict[tuple[int, int], float],
    ) -> bool:  # fmt: skip
        way, side = name.split("-")
        peer = pp + (1 if (way == "forward") == (side == "send") else -1)
        other = f"{way}-{'recv' if side == 'send' else 'send'}"
        if at[peer] >= len(lists[peer]) or lists[peer][at[peer]] != (other, batch):
            return False
        sender = pp if side == "send" else peer
        takes = self.change(Op(step, dp, sender, f"{way}-send", batch), TRANSFER_S)
        end = max(done[dp, pp], done[dp, peer]) + takes
        for stage, what in ((pp, name), (peer, other)):
            self._add(step, dp, stage, what, done[dp, stage], end - done[dp, stage], batch)
            done[dp, stage] = end
        at[peer] += 1
        return True

    def _list(self, pp: int) -> list[tuple[str, int]]:
        """1F1B of one stage. Stages of one parity send first, so that neighbours meet."""
        warm = min(self.pp - 1 - pp, self.microbatches)
        todo: list[tuple[str, int]] = []
        for batch in range(warm):
            todo += self._forward(pp, batch)
        for n in range(self.microbatches - warm):
            todo += self._forward(pp, warm + n, send=False)
            todo += self._exchange(pp, [("forward-send", warm + n)], [("backward-recv", n)], up=True)
            todo.append(("backward-compute", n))
            last = n == self.microbatches - warm - 1
            receive = [] if last else [("forward-recv", warm + n + 1)]
            todo += self._exchange(pp, receive, [("backward-send", n)], up=False)
        for n in range(self.microbatches - warm, self.microbatches):
            todo += self._backward(pp, n)
        return todo

    def _exchange(self, pp: int, forward: list[tuple[str, int]], backward: list[tuple[str, int]], *, up: bool) -> list[tuple[str, int]]:
        at_end = pp == self.pp - 1 if up else pp == 0
        return [] if at_end else [*forward, *backward]

    def _forward(self, pp: int, batch: int, *, send: bool = True) -> list[tuple[str, int]]:
        steady = batch > min(self.pp - 1 - pp, self.microbatches)  # its receive went with the backward before it
        todo = [] if pp == 0 or steady else [("forward-recv", batch)]
        todo.append(("forward-compute", batch))
        return [*todo, ("forward-send", batch)] if send and pp < self.pp - 1 else todo

    def _backward(self, pp: int, batch: int) -> list[tuple[str, int]]:
        todo = [] if pp == self.pp - 1 else [("backward-recv", batch)]
        todo.append(("backward-compute", batch))
        return todo if pp == 0 else [*todo, ("backward-send", batch)]

    def _add(self, step: int, dp: int, pp: int, name: str, start: float, seconds: float, batch: int) -> float:
        self.rows.append((step, self.rank(dp, pp), dp, pp, 0, name, start + 100.0 * step, seconds, -1, batch))
        return start + seconds

    def csv(self) -> bytes:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(self.rows)
        return out.getvalue().encode()
