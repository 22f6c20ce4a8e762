"""Shapes of transformers: parameters, arithmetic per token and bytes of activations, read from `models.toml`."""

from collections.abc import Mapping
from functools import cache

import msgspec

from simulator.physics.tables import PhysicsError, pick, rows_of

RECOMPUTE = {"none": 0.0, "selective": 0.02, "full": 1.0}
"""How much of a forward pass is done again in the backward pass. Selective: norms and the gated product, which are cheap."""


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decoder-only transformer.

    gated: three matrices in a feed-forward layer (SwiGLU), otherwise two; tied: the output head is the embedding
    experts: 0 of a dense model; dense_layers: leading layers of a mixture of experts that have a dense feed-forward layer
    query_rank, kv_rank, rope_dim: of multi-head latent attention, 0 without
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    gated: bool = True
    tied: bool = False
    qkv_bias: bool = False
    query_rank: int = 0
    kv_rank: int = 0
    rope_dim: int = 0
    experts: int = 0
    experts_active: int = 0
    experts_shared: int = 0
    expert_ffn: int = 0
    dense_layers: int = 0
    parameters_published: float = 0.0
    active_published: float = 0.0

    @property
    def attention_parameters(self) -> int:
        """Of one layer's attention, all projections."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if not self.kv_rank:
            bias = queries + 2 * keys if self.qkv_bias else 0
            return self.hidden * (2 * queries + 2 * keys) + bias
        down = self.hidden * (self.query_rank + self.kv_rank + self.rope_dim)
        up = self.query_rank * self.heads * (self.head_dim + self.rope_dim) + self.kv_rank * 2 * queries
        return down + up + queries * self.hidden

    def feed_forward_parameters(self, width: int) -> int:
        """Of one feed-forward block of this width."""
        return (3 if self.gated else 2) * self.hidden * width

    def is_sparse(self, layer: int) -> bool:
        """Whether a layer's feed-forward block is a mixture of experts."""
        return bool(self.experts) and layer >= self.dense_layers

    def dense_part(self, layer: int) -> int:
        """Parameters of a layer that every token passes: attention, norms, and what is no expert of the feed-forward block."""
        same = self.attention_parameters + 2 * self.hidden
        if not self.is_sparse(layer):
            return same + self.feed_forward_parameters(self.ffn)
        return same + self.hidden * self.experts + self.experts_shared * self.feed_forward_parameters(self.expert_ffn)

    def expert_part(self, layer: int, *, active: bool = False) -> int:
        """Parameters of a layer's routed experts; active: only those a token passes."""
        count = self.experts_active if active else self.experts
        return count * self.feed_forward_parameters(self.expert_ffn) if self.is_sparse(layer) else 0

    @property
    def embedding(self) -> int:
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All of them, embedding and head included."""
        layers = sum(self.dense_part(n) + self.expert_part(n) for n in range(self.layers))
        return layers + self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def active_parameters(self) -> int:
        """Those that one token passes, embedding and head included."""
        layers = sum(self.dense_part(n) + self.expert_part(n, active=True) for n in range(self.layers))
        return layers + self.embedding * (1 if self.tied else 2) + self.hidden

    def layer_flops(self, layer: int) -> float:
        """Forward FLOPs per token in a layer's matrices: a multiplication and an addition per weight."""
        return 2.0 * (self.dense_part(layer) + self.expert_part(layer, active=True))

    @property
    def head_flops(self) -> float:
        """Forward FLOPs per token of the output head; the embedding is a look-up."""
        return 2.0 * self.embedding

    @property
    def attention_flops(self) -> float:
        """Forward FLOPs of one layer per token and token attended to: scores and their weighted sum."""
        return 2.0 * self.heads * (2 * self.head_dim + self.rope_dim)

    def flops_per_token(self, sequence: int, *, causal: bool = False, recompute: str = "none") -> float:
        """Forward and backward FLOPs of one token in a sequence of this length.

        causal: count only the half of the scores that a causal mask leaves, as fused kernels compute; otherwise all of
        them, the convention of MFU (PaLM, arXiv:2204.02311, appendix B; Megatron-LM, arXiv:2104.04473)
        recompute: work done again for want of memory is hardware's, not the model's: "none" for MFU
        """
        attended = sequence / 2 if causal else float(sequence)
        layers = sum(self.layer_flops(n) for n in range(self.layers)) + self.layers * self.attention_flops * attended
        return (3.0 + again_of(recompute)) * layers + 3.0 * self.head_flops

    def activation_bytes(self, layer: int, *, recompute: str = "none") -> float:
        """Bytes per token that a layer keeps for its backward pass at 16 bit, before they are divided among tensor ranks.

        Fused attention keeps no scores. Counted after Korthikanti et al., Reducing Activation Recomputation in Large
        Transformer Models, arXiv:2205.05198, with grouped queries and gated blocks written out.
        """
        if again_of(recompute) >= 1.0:
            return 2.0 * self.hidden
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        width = self.ffn if not self.is_sparse(layer) else (self.experts_active + self.experts_shared) * self.expert_ffn
        copies = self.experts_active if self.is_sparse(layer) else 1
        norms, inner = (3 + copies, 3 if self.gated else 2) if recompute == "none" else (1 + copies, 2 if self.gated else 1)
        return 2.0 * (norms * self.hidden + 2 * queries + 2 * keys + inner * width)


def again_of(recompute: str) -> float:
    """The share of a forward pass done again. raises PhysicsError: an unknown word"""
    return pick(RECOMPUTE, recompute, "recompute mode")


@cache
def models() -> Mapping[str, Model]:
    """Every shape by its name. raises PhysicsError: the file does not hold together"""
    rows = rows_of("models.toml", Model)
    for name, model in rows.items():
        if model.heads % model.kv_heads or model.experts_active > model.experts:
            raise PhysicsError(f"models.toml: {name}: heads or experts do not divide")
    return rows


def model_shape(name: str) -> Model:
    """The shape of this name, such as "qwen2.5-72b". raises PhysicsError: there is none"""
    return pick(models(), name, "model")
