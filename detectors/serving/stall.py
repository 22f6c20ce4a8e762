"""Claims that an inference engine has requests running and makes no tokens."""

from collections.abc import Iterator

import msgspec
import numpy as np

from holdfast.events import Finding, Observation, Samples
from holdfast.faults import Action, Fault, Perception, Symptom
from holdfast.topology import JobId, Target
from holdfast.verdict import Evidence

MOST_ENGINES = 65_536
_RUNNING, _TOKENS = "serving.requests_running", "serving.generation_tokens_total"


class Engine(msgspec.Struct):
    """One instance. still: samples in a row with requests and no new token."""

    tokens: float = -1.0
    still: int = 0
    claim: Finding | None = None


class EngineStall:
    """samples: so many in a row are a stall; one with new tokens ends it."""

    consumes = (Samples,)

    def __init__(self, *, samples: int = 3) -> None:
        self.samples = samples
        self._engines: dict[str, Engine] = {}
        self._said = 0

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if not isinstance(seen, Samples) or _RUNNING not in seen.signals or _TOKENS not in seen.signals:
            return
        running, tokens = (seen.values[:, seen.signals.index(name)] for name in (_RUNNING, _TOKENS))
        for target, has, made in zip(seen.targets, running.tolist(), tokens.tolist(), strict=True):
            if not (np.isnan(has) or np.isnan(made)):
                yield from self._on_engine(target, has, made, seen)

    def tick(self, now: float) -> Iterator[Finding]:
        return iter(())

    def _on_engine(self, target: Target, running: float, tokens: float, seen: Samples) -> Iterator[Finding]:
        key = f"{target.node} {target.id}"
        if key not in self._engines:
            while len(self._engines) >= MOST_ENGINES:
                del self._engines[next(iter(self._engines))]
            self._engines[key] = Engine()
        engine = self._engines[key]
        moved, engine.tokens = tokens != engine.tokens, tokens  # a counter that begins anew has moved too
        engine.still = 0 if moved or running <= 0 else engine.still + 1
        if engine.still >= self.samples and engine.claim is None:
            engine.claim = self._finding(target, running, engine, seen)
            yield engine.claim
        elif moved and engine.claim is not None:
            claim, engine.claim = engine.claim, None
            yield msgspec.structs.replace(claim, at=seen.at, cleared=True, evidence=())

    def _finding(self, target: Target, running: float, engine: Engine, seen: Samples) -> Finding:
        self._said += 1
        text = f"engine {target.id}: {running:.0f} requests running and no token in {engine.still} samples"
        return Finding(
            at=seen.at, id=f"stall/{target.id}/{self._said}", job=JobId(seen.job), target=target, perception=Perception.SLO_BREACH,
            symptom=Symptom.SLO, fault=Fault.SERVING, check="serving.stalled", cause="stalled", confidence=0.9,
            action=Action.RESTART, evidence=(Evidence(seen.source, 0, text),),
        )  # fmt: skip

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self._said, self._engines))

    def restore(self, memory: bytes) -> None:
        self._said, self._engines = msgspec.msgpack.decode(memory, type=tuple[int, dict[str, Engine]])
