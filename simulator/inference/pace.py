"""How long the next steps of an engine take: their cost, and noise that depends on the step's number alone."""

import numpy as np

from simulator.chance import stream
from simulator.inference.batch import Batch
from simulator.inference.cost import Cost
from simulator.inference.limits import Limits
from simulator.inference.request import Request

_BLOCK = 1024
_MOST_BLOCKS = 4


class Pace:
    """Seconds of steps. name: of the engine; noise has the mean 1 (`Limits.jitter`)."""

    def __init__(self, cost: Cost, limits: Limits, *, seed: int, name: str) -> None:
        self._cost, self._limits, self._seed, self._name = cost, limits, seed, name
        self._blocks: dict[int, np.ndarray] = {}

    def seconds(self, batch: Batch | None, work: list[tuple[Request, int]], *, number: int, steps: int) -> np.ndarray:
        """Of each of the next `steps` steps, shape (steps,), `number` the first.

        batch: the sequences that take part, None without decode; work: prompts and how many of their tokens are computed
        """
        tokens, pairs, context = 0.0, 0.0, 0.0
        for request, count in work:
            tokens += count
            pairs += count * (request.computed + 0.5 * count)
            context += request.computed
        reads = np.full(steps, context)
        if batch is not None:
            count, width = len(batch), 1 + self._limits.drafted
            decoded = float(batch.context.sum()) + np.arange(steps) * count
            seconds = self._cost.steps_s(tokens + count * width, pairs + width * decoded, reads + decoded)
        else:
            seconds = self._cost.steps_s(tokens, np.full(steps, pairs), reads)
        noisy: np.ndarray = seconds * self._noise(number, number + steps)
        return noisy

    def _noise(self, begin: int, end: int) -> np.ndarray:
        pieces = []
        while begin < end:
            block, place = divmod(begin, _BLOCK)
            pieces.append(self._block(block)[place : place + end - begin])
            begin += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _block(self, block: int) -> np.ndarray:
        found = self._blocks.get(block)
        if found is None:
            sigma = self._limits.jitter
            found = np.exp(stream(self._seed, "step", self._name, block).normal(-0.5 * sigma**2, sigma, _BLOCK))
            self._blocks[block] = found
            while len(self._blocks) > _MOST_BLOCKS:
                del self._blocks[min(self._blocks)]
        return found
