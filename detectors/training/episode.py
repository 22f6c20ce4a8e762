"""What the cores say of a training run: an episode begins, grows worse, or is over."""

import msgspec

SPIKE, DIVERGENCE, NAN = "spike", "divergence", "nan"
SLOW_SHIFT, SLOW_SPIKE = "slow_shift", "slow_spike"
LOSS_KINDS = frozenset({SPIKE, DIVERGENCE, NAN})
FINAL_KINDS = frozenset({DIVERGENCE, NAN})  # what does not heal by waiting


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """Something unusual in one series of one attempt; said again, with the same signal and step, when it changes.

    step, line: where it begins; attempt: which, as its reader knows
    signal: "loss", "grad_norm", "loss_scale", "step_s", "tokens_per_s", "samples_per_s"
    before, after: level before it and worst value in it (level in it for what stays); NaN where there is no number
    recovered_at: first step at which it was over, None while it is not
    cost, worst_at: extra time of slow ones in usual steps, and which was the longest
    gradient: how many times its usual norm the gradient had, 0.0 unknown
    """

    step: int
    kind: str
    signal: str
    before: float
    after: float
    line: int = 0
    attempt: int = 0
    recovered_at: int | None = None
    cost: float = 0.0
    worst_at: int = -1
    gradient: float = 0.0
