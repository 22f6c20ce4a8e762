"""One instance of an inference engine: its queue, its batch, its KV cache, step after step in simulated time.

Continuous batching (Yu et al., "Orca", OSDI 2022) over paged KV (Kwon et al., "PagedAttention", SOSP 2023) with chunked prefill (Agrawal
et al., "Sarathi-Serve", OSDI 2024): a step computes one token of every running sequence and, within a budget of tokens, pieces of
prompts. Decode steps between two events are computed together, as arrays.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from simulator.chance import stream
from simulator.inference.batch import Batch
from simulator.inference.blocks import Blocks
from simulator.inference.cost import Cost
from simulator.inference.limits import Limits, Role
from simulator.inference.meter import Meter
from simulator.inference.pace import Pace
from simulator.inference.request import PIECE_TOKENS, Request
from simulator.inference.view import View

_MOST_STEPS = 2048
_NEVER = float("inf")


@dataclass
class Plan:
    """Steps under way. ends: moment each ends; work: prompts and how many of their tokens; decodes: whether the batch takes part."""

    ends: np.ndarray
    work: list[tuple[Request, int]]
    decodes: bool


@dataclass
class Done:
    """What steps brought. ended: requests that have all their tokens; handed: prompts that go on to a decode instance."""

    at: float
    ended: list[Request] = field(default_factory=list)
    handed: list[Request] = field(default_factory=list)


class Engine:
    """What a fault sets: slow (times as long per step), stalled (steps never end), leaked_blocks, link (share of the fabric left), dead.

    chunks: where intervals between streamed chunks are kept for a client, (seconds, how many); None keeps none
    """

    def __init__(self, name: str, *, cost: Cost, limits: Limits, role: Role = "both", flavour: str = "vllm", seed: int = 0) -> None:
        self.name, self.cost, self.limits, self.role, self.flavour = name, cost, limits, role, flavour
        self.slow, self.link, self.dead = 1.0, 1.0, False
        self.chunks: list[tuple[np.ndarray, int]] | None = None
        self.blocks = Blocks(limits.blocks or cost.kv_tokens() // limits.block_size, size=limits.block_size)
        self.waiting: deque[Request] = deque()
        self.prefilling: list[Request] = []
        self.batch = Batch()
        self.coming, self.sending, self.lives, self.steps, self.now = 0, 0, 0, 0, 0.0
        self.link_free_at = 0.0
        self.meter = self._fresh(0.0)
        self.plan: Plan | None = None
        self._shown = self._gauges()
        self._stalled_at, self._decoded_at, self._tokens_per_s = -1.0, 0.0, 0.0
        self._chance = stream(seed, "engine", name)
        self._pace = Pace(cost, limits, seed=seed, name=name)

    # --- what is seen from outside

    @property
    def outstanding(self) -> int:
        """Requests it has or is about to get."""
        return len(self.waiting) + self.running + self.coming

    @property
    def running(self) -> int:
        return len(self.prefilling) + len(self.batch)

    @property
    def next_at(self) -> float:
        """When what is under way ends; never while it stalls."""
        return _NEVER if self.plan is None or self.stalled or self.dead else float(self.plan.ends[-1])

    @property
    def state(self) -> str:
        """healthy, degraded, stalled or dead: the truth, not what anybody sees."""
        if self.dead:
            return "dead"
        if self.stalled:
            return "stalled"
        return "degraded" if self.slow > 1 or self.leaked_blocks or self.link < 1 else "healthy"

    @property
    def leaked_blocks(self) -> int:
        return self.blocks.leaked

    @leaked_blocks.setter
    def leaked_blocks(self, count: int) -> None:
        self.blocks.leaked = count

    @property
    def stalled(self) -> bool:
        return self._stalled_at >= 0

    @stalled.setter
    def stalled(self, stalled: bool) -> None:
        """A step that stalls goes on, with what was left of it, when the stall ends."""
        if stalled and not self.stalled:
            self._stalled_at, self._shown = self.now, self._gauges()
        elif not stalled and self.stalled:
            if self.plan is not None:
                self.plan.ends = self.plan.ends + (self.now - self._stalled_at)
            self._stalled_at = -1.0

    def view(self, model: str) -> View:
        """What its page is written from. model: the name it is served under.

        Engines set their gauges at the end of a step: those of a stalled one stay, whatever waits before it.
        """
        shape = self.cost.model
        running, waiting, use, tokens = self._shown if self.stalled else self._gauges()
        return View(
            name=self.name, model=model, flavour=self.flavour, role=self.role, limits=self.limits, meter=self.meter,
            running=running, waiting=waiting, blocks=self.blocks.total, kv_use=use, sequence_tokens=tokens,
            tokens_per_s=self._tokens_per_s if len(self.batch) else 0.0,
            coming=self.coming, sending=self.sending, weight_bytes=shape.parameters * shape.weight_bytes,
            kv_bytes=self.blocks.total * self.blocks.size * shape.kv_bytes,
        )  # fmt: skip

    def _gauges(self) -> tuple[int, int, float, float]:
        return self.running, len(self.waiting), self.blocks.use, float(self.batch.context.sum())

    def accepts(self, request: Request) -> bool:
        """Whether it could ever hold the whole of it; a longer one is refused at once, as engines do."""
        tokens = request.prompt + request.output
        return tokens <= self.limits.context_limit and self.blocks.of(tokens) <= self.blocks.total

    # --- what happens to it

    def take(self, request: Request, now: float) -> None:
        """A request comes into its queue; `computed` of its tokens have their KV already."""
        request.queued_at, request.begun_at = now, -1.0
        self.waiting.append(request)
        if self.plan is not None and len(self.plan.ends) > 1 and len(self.batch) < self.limits.max_num_seqs:
            self.cut(now)

    def cut(self, now: float) -> None:
        """Plan no further than the step that is under way at `now`."""
        if self.plan is not None:
            first = int(np.searchsorted(self.plan.ends, now, side="left"))
            self.plan.ends = self.plan.ends[: first + 1]

    def lose(self, now: float) -> list[Request]:
        """The process is gone, and all it had; its counters begin anew."""
        lost = [*self.waiting, *self.prefilling, *self.batch.clear()]
        self.waiting.clear()
        self.prefilling.clear()
        self.blocks.clear()
        self.plan, self.coming, self.sending, self.meter = None, 0, 0, self._fresh(now)
        self.lives += 1
        return lost

    def release(self, request: Request) -> None:
        """A prompt that was handed on has arrived: its blocks are free."""
        self.sending -= 1
        self.blocks.give(request.context, request.pieces)

    def begin(self, now: float) -> None:
        """Begin the next step, or several, if there is anything to do."""
        if self.plan is not None or self.stalled or self.dead:
            return
        reserved, short = self._make_room()
        work = [] if short and len(self.batch) else self._admit(now, reserved)
        decodes = len(self.batch) > 0 and (self.limits.mixed or not work)
        if work or decodes:
            steps = 1 if work else self._steps()
            seconds = self._pace.seconds(self.batch if decodes else None, work, number=self.steps, steps=steps)
            self.plan = Plan(now + np.cumsum(seconds * self.slow), work, decodes)

    def settle(self, now: float) -> Done | None:
        """Carry out the steps that have ended by `now`."""
        plan = self.plan
        if plan is None or self.stalled or self.dead:
            return None
        steps = int(np.searchsorted(plan.ends, now, side="right"))
        if not steps:
            return None
        done = Done(float(plan.ends[steps - 1]))
        self.now = max(self.now, done.at)
        if plan.decodes:
            self._decode(plan.ends[:steps], done)
        self._prefill(plan.work, done)
        self.steps += steps
        plan.ends = plan.ends[steps:]
        if not len(plan.ends):
            self.plan = None
        return done

    # --- a step

    def _make_room(self) -> tuple[int, bool]:
        """Preempt, the latest first, until the next step's tokens have blocks; (blocks it wants, whether any was preempted)."""
        short = False
        while (wanted := self._growth(1)) > self.blocks.free and len(self.batch):
            request = self.batch.drop_last()
            self.blocks.give(request.context, request.pieces)
            request.computed = 0
            request.preemptions += 1
            self.meter.preemptions += 1
            self.waiting.appendleft(request)
            short = True
        return wanted, short

    def _growth(self, steps: int) -> int:
        """Blocks that so many steps may need at most."""
        context, size = self.batch.context, self.blocks.size
        later = context + np.minimum(steps * (1 + self.limits.drafted), self.batch.left)
        return int((-(-later // size) + context // -size).sum())

    def _steps(self) -> int:
        """Decode steps until something may end or blocks may run out; one at a time where chance decides how many tokens a step makes."""
        if self.limits.drafted:
            return 1
        steps = min(int(self.batch.left.min()), _MOST_STEPS)
        while steps > 1 and self._growth(steps) > self.blocks.free:
            steps //= 2
        return steps

    def _admit(self, now: float, reserved: int) -> list[tuple[Request, int]]:
        """Prompts, and how many of their tokens this step computes, new ones from the queue included."""
        limits = self.limits
        budget = limits.max_num_batched_tokens - (len(self.batch) * (1 + limits.drafted) if limits.mixed else 0)
        work: list[tuple[Request, int]] = []
        for request in self.prefilling:
            if budget > 0:
                work.append((request, min(request.context - request.computed, budget)))
                budget -= work[-1][1]
        joined: list[Request] = []
        while self.waiting and self.running + len(joined) < limits.max_num_seqs:
            request = self.waiting[0]
            ready = request.computed >= request.context
            cached = 0 if ready else min(self.blocks.found(request.pieces) * PIECE_TOKENS, request.context - 1)
            todo = 0 if ready else request.context - cached
            if todo and (budget <= 0 or (todo > budget and work and not limits.chunked)):
                break
            if not self._fits(request, reserved, alone=not (work or joined or self.running)):
                break
            self._schedule(self.waiting.popleft(), now, cached)
            if ready:
                joined.append(request)
                continue
            request.computed = cached
            self.prefilling.append(request)
            work.append((request, min(todo, budget) if limits.chunked else todo))
            budget -= work[-1][1]
        self._join(joined, now)
        return work

    def _fits(self, request: Request, reserved: int, *, alone: bool) -> bool:
        """Whether blocks are there, a hundredth kept free while others run (vLLM's watermark)."""
        wanted = self.blocks.wanted(request.context + 1 + self.limits.drafted, request.pieces)
        return wanted <= self.blocks.free - reserved - (0 if alone else self.blocks.total // 100)

    def _schedule(self, request: Request, now: float, cached: int) -> None:
        if request.begun_at < 0:
            request.begun_at = now
            request.cached = cached
            self.meter.on_scheduled(request, now, cached=cached)
        if not request.accept and self.limits.drafted:
            drawn = self.limits.accept + self.limits.accept_spread * float(self._chance.standard_normal())
            request.accept = min(1.0, max(0.0, drawn))
        self.blocks.take(request.context, request.pieces)

    def _join(self, requests: list[Request], now: float) -> None:
        """Sequences whose KV has come from a prefill instance: their first token is streamed as they join the batch."""
        for request in requests:
            if request.first_at < 0:
                request.first_at = now
                self.meter.transferred_tokens += request.prompt
                self.meter.on_first(request, now)
            request.last_at = now
        if requests:
            self.batch.add(requests)

    def _decode(self, ends: np.ndarray, done: Done) -> None:
        batch, limits = self.batch, self.limits
        before = batch.context
        tokens: np.ndarray | int = len(ends)
        if limits.drafted:
            right = self._chance.random((len(batch), limits.drafted)) < batch.accept[:, None]
            tokens = 1 + np.cumprod(right, axis=1).sum(axis=1)
        made = batch.make(tokens)
        self.blocks.grow(int((-(-batch.context // self.blocks.size) + before // -self.blocks.size).sum()))
        self.meter.generated_tokens += float(made.sum())
        self._tokens_per_s = float(made.sum()) / max(1e-9, float(ends[-1]) - self._decoded_at)
        self._decoded_at = float(ends[-1])
        self.meter.histograms["iteration_tokens"].put_all(np.array([float(len(batch))]), np.array([float(len(ends))]))
        self._stream(ends, made)
        for request in batch.ended():
            self._end(request, done)

    def _stream(self, ends: np.ndarray, made: np.ndarray) -> None:
        """Chunks go out after every `chunk_steps`-th step of the engine, and at a sequence's end."""
        batch, every = self.batch, self.limits.chunk_steps
        sent = ends[(self.steps + 1 + np.arange(len(ends))) % every == 0]
        if len(sent):
            self._note(sent[0] - batch.last_at, made // max(1, len(ends)) * every)
            gaps = np.repeat(np.diff(sent), len(batch))
            if len(gaps):
                self._note(gaps, np.full(len(gaps), every))
            batch.last_at = np.full(len(batch), sent[-1])
        last = (batch.left == 0) & (batch.last_at < ends[-1])
        if last.any():
            self._note(ends[-1] - batch.last_at[last], np.ones(int(last.sum()), dtype=np.int64))
            batch.last_at = np.where(last, ends[-1], batch.last_at)

    def _note(self, intervals: np.ndarray, tokens: np.ndarray) -> None:
        self.meter.on_chunks(intervals, tokens)
        if self.chunks is not None:
            self.chunks.append((intervals.astype(np.float32), 1))

    def _prefill(self, work: list[tuple[Request, int]], done: Done) -> None:
        joined: list[Request] = []
        for request, count in work:
            request.computed += count
            if request.computed < request.context:
                continue
            self.prefilling.remove(request)
            held = request.context
            request.made += 1
            self.blocks.grow(self.blocks.of(held + 1) - self.blocks.of(held))
            if request.made == 1:
                self.meter.on_first(request, done.at)
                if self.role == "both" or request.output == 1:
                    request.first_at = done.at
            else:
                self.meter.generated_tokens += 1
                self._note(np.array([done.at - request.last_at]), np.ones(1, dtype=np.int64))
            request.last_at = done.at
            if request.made >= request.output:
                self._end(request, done)
            elif self.role == "prefill":
                self.meter.on_end(request, done.at, made=1, first_at=done.at)
                self.sending += 1
                done.handed.append(request)
            else:
                joined.append(request)
        if joined:
            self.batch.add(joined)

    def _end(self, request: Request, done: Done) -> None:
        request.ended_at, request.reason = done.at, "stop"
        self.blocks.give(request.context, request.pieces)
        self.meter.on_end(request, done.at, made=request.made, first_at=max(request.first_at, request.queued_at))
        done.ended.append(request)

    def _fresh(self, now: float) -> Meter:
        return Meter(self.flavour, now, self.limits.context_limit)
