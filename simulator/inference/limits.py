"""An engine's settings, in the words of vLLM's options."""

from typing import Annotated, Literal

import msgspec

Role = Literal["both", "prefill", "decode"]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What bounds a step and how tokens leave it.

    blocks: KV blocks, 0 as many as fit beside the weights; chunked: prompts are cut to the budget, otherwise computed whole
    mixed: prompts and decode share a step (vLLM); otherwise prompts come first and decode waits (SGLang)
    drafted: tokens a step drafts and verifies beside the certain one, each accepted with a chance of `accept` +- `accept_spread`,
    drawn once per request; chunk_steps: so many steps make one streamed chunk; jitter: sigma of a step's lognormal noise
    """

    max_num_seqs: Annotated[int, msgspec.Meta(ge=1)] = 256
    max_num_batched_tokens: Annotated[int, msgspec.Meta(ge=1)] = 8192
    block_size: Annotated[int, msgspec.Meta(ge=1)] = 16
    blocks: Annotated[int, msgspec.Meta(ge=0)] = 0
    context_limit: Annotated[int, msgspec.Meta(ge=1)] = 32_768
    chunked: bool = True
    mixed: bool = True
    drafted: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0
    accept: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    accept_spread: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    chunk_steps: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    jitter: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.03
