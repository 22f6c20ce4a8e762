"""The program of one pipeline stage for one step: 1F1B over micro-batches, then the gradients, the optimizer and what is logged."""

from collections.abc import Iterator, Sequence

from simulator.evidence.acts import UNEVEN, Act, Model, Op, Part, Sizes
from simulator.evidence.groups import (
    CONTEXT,
    DATA,
    EMBEDDING,
    EXPERT,
    EXPERT_DATA,
    MODEL,
    OPTIMIZER,
    PIPELINE,
    TENSOR,
    WORLD,
    Layout,
)

_FORWARD_S, _BACKWARD_S = 0.006, 0.011
_OPTIMIZER_S = 0.03
_SAVE_S = 4.0


class Stage:
    """Writes the program of one stage. Groups of a single rank are left out: the framework makes no call for them."""

    def __init__(self, layout: Layout, model: Model, stage: int) -> None:
        self.layout, self.model, self.stage = layout, model, stage
        self.first, self.last = stage == 0, stage == layout.pp - 1
        self.sizes = {
            desc: layout.size(desc) for desc in (TENSOR, CONTEXT, DATA, EXPERT, EXPERT_DATA, MODEL, OPTIMIZER, WORLD)
        } | {EMBEDDING: min(2, layout.pp) if self.first or self.last else 1}  # fmt: skip

    def step(self, *, saves: bool = False) -> tuple[Act, ...]:
        """The acts of one step. saves: a checkpoint follows it. The schedule is 1F1B (Narayanan et al., SC 2021, section 2.2)."""
        return tuple(act for act in self._step(saves) if not act.group or act.parts or self.sizes.get(act.group, 2) > 1)

    def _step(self, saves: bool) -> Iterator[Act]:
        count = self.model.micro_batches
        warm = min(self.layout.pp - 1 - self.stage, count)
        for n in range(warm):
            yield from self._meet(receive=-1, place="warmup")
            yield from self._forward(n)
            yield from self._meet(send=1, place="warmup")
        if count > warm:
            yield from self._meet(receive=-1, place="warmup")
        for n in range(count - warm):
            yield from self._forward(warm + n)
            yield from self._meet(send=1, receive=1, place="steady")
            yield from self._backward(n, final=n == count - 1)
            yield from self._meet(send=-1, receive=-1 if n < count - warm - 1 else 0, place="steady")
        for n in range(count - warm, count):
            yield from self._meet(receive=1, place="cooldown")
            yield from self._backward(n, final=n == count - 1)
            yield from self._meet(send=-1, place="cooldown")
        yield from self._finish()
        if saves:
            yield from self._save()

    # --- along the pipeline

    def _meet(self, *, send: int = 0, receive: int = 0, place: str) -> Iterator[Act]:
        """Transfers with the neighbours: +1 the next stage, -1 the one before, 0 none. Even stages send first, as the framework has it."""
        parts = [Part(sends, self.stage + way) for sends, way in ((True, send), (False, receive)) if way]
        parts = [part for part in parts if 0 <= part.peer < self.layout.pp]
        if self.stage % 2:
            parts.reverse()
        if parts:
            shape = ((self._slice, 1, self.model.hidden),)
            yield Act(Op.TRANSFER, PIPELINE, shape, shape, parts=tuple(parts), place=f"transfer.{place}")
            if self.model.batched_transfers:
                yield Act(Op.SYNCHRONIZE, place=f"transfer.{place}")

    @property
    def _whole(self) -> int:
        return self.model.sequence // self.layout.cp

    @property
    def _slice(self) -> int:
        """Tokens of a sequence that a rank holds between layers: sequence parallel over the tensor group."""
        return max(1, self._whole // self.layout.tp)

    # --- layers

    def _forward(self, number: int) -> Iterator[Act]:
        if self.first or self.last:
            yield Act(Op.LOAD, place="data", work_s=0.0005)
            yield self._same(Op.BROADCAST, TENSOR, ((1, self._whole + 1),), "broadcast_data", dtype="Long")
        if self.first:
            yield self._scatter("forward.embedding")
        for layer in range(self.model.layers):
            yield from self._gathered("forward.attention", _FORWARD_S)
            if self.layout.cp > 1:
                yield self._gather_context("forward.attention")
            yield self._scatter("forward.attention")
            if self.model.experts:
                yield from self._experts("forward", layer)
            else:
                yield from self._gathered("forward.mlp", _FORWARD_S)
                yield self._scatter("forward.mlp")
        if self.last:
            yield from self._gathered("forward.head", _FORWARD_S)
            for dtype in ("Float", "Float", "Float"):
                yield self._same(Op.ALL_REDUCE, TENSOR, ((self._whole, 1),), "forward.loss", dtype=dtype)

    def _backward(self, number: int, *, final: bool) -> Iterator[Act]:
        if self.last:
            yield self._scatter("backward.head")
        overlapped = final and self.model.overlapped_gradients
        for layer in reversed(range(self.model.layers)):
            if self.model.experts:
                yield from self._experts("backward", layer)
            else:
                yield from self._gathered("backward.mlp", _BACKWARD_S)
                yield self._scatter("backward.mlp")
            yield from self._gathered("backward.attention", _BACKWARD_S)
            if self.layout.cp > 1:
                yield self._gather_context("backward.attention")
            yield self._scatter("backward.attention")
            if overlapped and layer < self.model.buckets:
                yield self._bucket("backward.bucket", beside=True, layer=layer)

    def _experts(self, way: str, layer: int) -> Iterator[Act]:
        """Tokens to their experts and back. How many a rank is sent depends on the router: it differs from rank to rank."""
        hidden, mine = self.model.hidden, self._slice
        there, here = ((UNEVEN, hidden),), ((mine, hidden),)
        yield self._gather(EXPERT, ((self.model.experts,),), "Long", f"{way}.router", layer=layer)
        yield Act(Op.ALL_TO_ALL, EXPERT, here, there, place=f"{way}.dispatch", work_s=_FORWARD_S / 2, layer=layer)
        yield Act(Op.ALL_TO_ALL, EXPERT, there, here, place=f"{way}.combine", work_s=_FORWARD_S, layer=layer)

    def _gathered(self, place: str, work_s: float) -> Iterator[Act]:
        yield self._gather(TENSOR, ((self._slice, 1, self.model.hidden),), "BFloat16", place, work_s=work_s)

    def _gather_context(self, place: str) -> Act:
        return self._gather(CONTEXT, ((self._whole, 1, self.model.hidden // 4),), "BFloat16", place)

    def _gather(self, group: str, inputs: Sizes, dtype: str, place: str, *, work_s: float = 0.0, layer: int = 0) -> Act:
        (first, *rest), *_ = inputs
        outputs = ((first * self.sizes[group], *rest),)
        return Act(Op.ALL_GATHER, group, inputs, outputs, dtype, place=place, work_s=work_s, layer=layer)

    def _scatter(self, place: str) -> Act:
        shape = (self._slice, 1, self.model.hidden)
        whole = (self._slice * self.sizes[TENSOR], 1, self.model.hidden)
        return Act(Op.REDUCE_SCATTER, TENSOR, (whole,), (shape,), place=place, work_s=0.001)

    def _same(
        self, op: Op, group: str, sizes: Sizes, place: str, *, dtype: str = "BFloat16", work_s: float = 0.0
    ) -> Act:
        return Act(op, group, sizes, sizes, dtype, place=place, work_s=work_s)

    # --- gradients, optimizer, log, checkpoint

    def _bucket(self, place: str, *, beside: bool, layer: int = 0, group: str = DATA) -> Act:
        size = self.sizes[group]
        whole = self.model.bucket // size * size
        return Act(
            Op.REDUCE_SCATTER, group, ((whole,),), ((whole // size,),), "Float", beside=beside, place=place, layer=layer
        )

    def _finish(self) -> Iterator[Act]:
        launched = min(self.model.buckets, self.model.layers) if self.model.overlapped_gradients else 0
        for n in range(launched, self.model.buckets):
            yield self._bucket("gradients.data", beside=True, layer=n)
        yield Act(Op.SETTLE, place="gradients.data")
        if self.model.experts:
            yield self._bucket("gradients.expert", beside=False, group=EXPERT_DATA)
        yield self._same(
            Op.ALL_REDUCE, TENSOR, ((self.model.hidden * 2 * self.model.layers,),), "gradients.norms", dtype="Float"
        )
        yield self._same(Op.ALL_REDUCE, EMBEDDING, ((32_000, self.model.hidden),), "gradients.embedding", dtype="Float")
        yield self._same(Op.ALL_REDUCE, OPTIMIZER, ((1,),), "optimizer.norm", dtype="Float", work_s=_OPTIMIZER_S)
        yield Act(Op.SYNCHRONIZE, place="optimizer.item")
        for n in range(self.model.buckets):
            yield self._gather(
                DATA, ((self.model.bucket // self.sizes[DATA],),), "BFloat16", "optimizer.gather", work_s=0.001, layer=n
            )
        if self.last:
            yield self._same(Op.ALL_REDUCE, DATA, ((2,),), "log.loss", dtype="Float")
        yield self._same(Op.ALL_REDUCE, MODEL, ((1,),), "log.overflow", dtype="Float")
        yield Act(Op.SYNCHRONIZE, place="log.item")

    def _save(self) -> Iterator[Act]:
        yield self._same(Op.BARRIER, WORLD, ((1,),), "save.barrier", dtype="Float")
        yield Act(Op.SYNCHRONIZE, place="save.barrier")
        yield Act(Op.SAVE, place="save.write", work_s=_SAVE_S)
        yield self._same(Op.BARRIER, WORLD, ((1,),), "save.barrier", dtype="Float")
        yield Act(Op.SYNCHRONIZE, place="save.barrier")


def startup() -> tuple[Act, ...]:
    """What every rank calls once, before its first step."""
    return (
        Act(Op.BARRIER, WORLD, ((1,),), ((1,),), "Float", place="start.barrier"),
        Act(Op.ALL_REDUCE, WORLD, ((1,),), ((1,),), "Double", place="start.time"),
    )


def programs(layout: Layout, model: Model, *, saves: bool = False) -> Sequence[tuple[Act, ...]]:
    """The program of each stage for one step."""
    return [Stage(layout, model, stage).step(saves=saves) for stage in range(layout.pp)]
