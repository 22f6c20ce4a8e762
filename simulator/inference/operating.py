"""Where an engine settles under a steady rate of requests: batch, step time, first token, and the most it can take."""

import math
from functools import lru_cache
from typing import NamedTuple

from simulator.inference.cost import Cost
from simulator.inference.limits import Limits, Role

_ROUNDS = 60


class Point(NamedTuple):
    """most: requests per second at most; running: requests under way; step_s, first_s: of a step, to the first token, nobody waiting

    full: requests under way when more come than it can take; by_blocks: whether KV blocks, not seats, bound those
    """

    most: float
    running: float
    step_s: float
    first_s: float
    full: float
    by_blocks: bool


@lru_cache(maxsize=4096)
def operating(cost: Cost, limits: Limits, role: Role, *, rate: float, prompt: float, output: float, blocks: int, slow: float) -> Point:
    """The fixed point of Little's law: as many under way as come in the time that so many make each other take.

    rate: requests per second; prompt, output: mean tokens; blocks: of KV that are there; slow: times as long per step
    """
    if role == "prefill":
        return _of_prefill(cost, limits, rate=rate, prompt=prompt, blocks=blocks, slow=slow)
    width = 1 + limits.drafted
    made = sum(limits.accept**n for n in range(width))
    attended = prompt + 0.5 * output
    seats = min(float(limits.max_num_seqs), blocks * limits.block_size / attended)
    computes = prompt if role == "both" else 0.0

    def step_s(batch: float, prefilled: float) -> float:
        pairs = width * batch * attended + 0.5 * prefilled * prompt
        return slow * cost.step_s(batch * width + prefilled, pairs, batch * attended)

    def most(batch: float) -> float:
        room = max(1.0, limits.max_num_batched_tokens - batch * width)
        ended = min(batch * made / output, room / computes if computes else math.inf)
        return ended / step_s(batch, ended * computes)

    if seats < 1:
        return Point(0.0, 0.0, step_s(1.0, 0.0), math.inf, 0.0, True)
    taken = min(rate, most(seats))
    batch, step = 0.0, step_s(0.0, 0.0)
    for _ in range(_ROUNDS):
        step = step_s(batch, taken * computes * step)
        batch = min(seats, 0.5 * (batch + taken * output / made * step))
    chunks = math.ceil(computes / max(1.0, limits.max_num_batched_tokens - batch * width))
    first_s = (chunks + 0.5) * step
    running = batch + taken * first_s
    return Point(most(seats), running, step, first_s, seats, seats < limits.max_num_seqs)


def _of_prefill(cost: Cost, limits: Limits, *, rate: float, prompt: float, blocks: int, slow: float) -> Point:
    """A queue of prompts that are computed in whole batches; waiting as of a server with constant service (M/D/1)."""
    at_once = min(limits.max_num_batched_tokens / prompt, blocks * limits.block_size / prompt)
    if blocks * limits.block_size < prompt:
        return Point(0.0, 0.0, math.inf, math.inf, 0.0, True)

    def step_s(prompts: float) -> float:
        return slow * cost.step_s(prompts * prompt, 0.5 * prompts * prompt * prompt, 0.0)

    most = at_once / step_s(at_once)
    busy = min(0.98, rate / most)
    batch = max(1.0, at_once * busy) if at_once >= 1 else at_once
    step = step_s(batch) if batch >= 1 else step_s(1.0)
    first_s = step + 0.5 * step * busy / (1.0 - busy)
    return Point(most, min(rate, most) * first_s, step, first_s, max(1.0, at_once), False)
