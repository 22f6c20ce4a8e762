"""A request to an inference service: what is asked, and how far it has come."""

from dataclasses import dataclass

PIECE_TOKENS = 512
"""Prompt tokens that one prefix hash covers, as in the published traces that carry hashes."""


@dataclass(slots=True, eq=False)
class Request:
    """All moments are seconds on the clock of whoever runs the engines.

    prompt, output: tokens; prefix: hashes of the prompt's successive pieces of PIECE_TOKENS, each standing for all before it too
    due_at: when its user wants it sent; sent_at: when the client sent it, from where latency counts; queued_at: in an engine's queue
    since; begun_at: first scheduled; first_at, last_at: first and latest token at the client; ended_at: 0 until it has ended
    made: output tokens so far; computed: tokens whose KV stands in the engine that holds it; cached: of the prompt, found in a cache
    accept: chance of a drafted token to be accepted; reason: why it ended, in vLLM's words ("" while it runs)
    """

    number: int
    due_at: float
    prompt: int
    output: int
    prefix: tuple[int, ...] = ()
    sent_at: float = 0.0
    queued_at: float = 0.0
    begun_at: float = -1.0
    first_at: float = -1.0
    last_at: float = 0.0
    ended_at: float = 0.0
    made: int = 0
    computed: int = 0
    cached: int = 0
    preemptions: int = 0
    accept: float = 0.0
    reason: str = ""

    @property
    def context(self) -> int:
        """Tokens that its next step attends to."""
        return self.prompt + self.made

    @property
    def pieces(self) -> tuple[int, ...]:
        """The hashes of whole pieces of the prompt; what is left over is never shared."""
        return self.prefix[: self.prompt // PIECE_TOKENS]
