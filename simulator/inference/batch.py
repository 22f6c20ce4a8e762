"""The sequences that an engine decodes together, a column per fact, so that a step of hundreds costs a few array operations."""

import numpy as np

from simulator.inference.request import Request


class Batch:
    """In the order of admission. left: tokens still to make; context: tokens it attends to; last_at: moment of its last chunk."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.left = np.zeros(0, dtype=np.int64)
        self.context = np.zeros(0, dtype=np.int64)
        self.last_at = np.zeros(0)
        self.accept = np.zeros(0)

    def __len__(self) -> int:
        return len(self.requests)

    def add(self, requests: list[Request]) -> None:
        """Requests whose first token is made."""
        self.requests += requests
        self.left = np.concatenate((self.left, [r.output - r.made for r in requests]))
        self.context = np.concatenate((self.context, [r.context for r in requests]))
        self.last_at = np.concatenate((self.last_at, [r.last_at for r in requests]))
        self.accept = np.concatenate((self.accept, [r.accept for r in requests]))

    def make(self, tokens: np.ndarray | int) -> np.ndarray:
        """Each sequence makes so many more, never past its end; returns how many each made."""
        made: np.ndarray = np.minimum(tokens, self.left)
        self.left = self.left - made
        self.context = self.context + made
        return made

    def ended(self) -> list[Request]:
        """Take out and return those that have made all."""
        if len(self.left) == 0 or int(self.left.min()) > 0:
            return []
        stay = self.left > 0
        return self._keep(stay)

    def drop_last(self) -> Request:
        """Take out the one admitted last."""
        stay = np.ones(len(self), dtype=bool)
        stay[-1] = False
        return self._keep(stay)[0]

    def clear(self) -> list[Request]:
        """Take out all."""
        return self._keep(np.zeros(len(self), dtype=bool))

    def _keep(self, stay: np.ndarray) -> list[Request]:
        out: list[Request] = []
        for n in np.flatnonzero(~stay).tolist():
            request = self.requests[n]
            request.made = request.output - int(self.left[n])
            request.last_at = float(self.last_at[n])
            out.append(request)
        self.requests = [self.requests[n] for n in np.flatnonzero(stay).tolist()]
        self.left, self.context = self.left[stay], self.context[stay]
        self.last_at, self.accept = self.last_at[stay], self.accept[stay]
        return out
