"""KV cache in blocks, with a prefix cache: pieces of prompts that later requests with the same beginning find computed."""

from collections import OrderedDict

from simulator.inference.request import PIECE_TOKENS


class Blocks:
    """The blocks of one engine. `size` tokens each; `leaked` are lost to nobody knows whom (a fault sets it).

    A piece of a prompt is held while a request uses it, stays findable afterwards, and goes, the longest unused first, when blocks are
    wanted. Free is what is empty or only findable, as both engines count it.
    """

    def __init__(self, total: int, *, size: int = 16) -> None:
        self.total, self.size = total, size
        self.leaked = 0
        self.private = 0
        self._used: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._piece = -(-PIECE_TOKENS // size)

    @property
    def free(self) -> int:
        """Blocks that a request could have now."""
        return self.total - self.leaked - self.private - len(self._used) * self._piece

    @property
    def use(self) -> float:
        """Share in use, 0..1; leaked blocks are in use as far as the engine knows."""
        return min(1.0, 1.0 - self.free / self.total) if self.total > 0 else 1.0

    def of(self, tokens: int) -> int:
        """Blocks that so many tokens fill."""
        return -(-tokens // self.size)

    def found(self, pieces: tuple[int, ...]) -> int:
        """How many pieces from the beginning are there."""
        count = 0
        for piece in pieces:
            if piece not in self._used and piece not in self._idle:
                break
            count += 1
        return count

    def wanted(self, tokens: int, pieces: tuple[int, ...]) -> int:
        """Free blocks that a request of so many tokens would take, the pieces nobody uses now included."""
        shared = sum(piece in self._used for piece in pieces)
        return max(0, self.of(tokens) - shared * self._piece)

    def take(self, tokens: int, pieces: tuple[int, ...]) -> None:
        """Hold them for a request; its pieces can be found from now on."""
        for piece in pieces:
            self._idle.pop(piece, None)
            self._used[piece] = self._used.get(piece, 0) + 1
        self.private += max(0, self.of(tokens) - len(pieces) * self._piece)
        self._evict()

    def grow(self, blocks: int) -> None:
        """So many more for requests that go on."""
        self.private += blocks
        self._evict()

    def give(self, tokens: int, pieces: tuple[int, ...]) -> None:
        """A request that holds `tokens` goes; its pieces stay findable."""
        self.private -= max(0, self.of(tokens) - len(pieces) * self._piece)
        for piece in pieces:
            left = self._used[piece] - 1
            if left:
                self._used[piece] = left
            else:
                del self._used[piece]
                self._idle[piece] = None
        self._evict()

    def clear(self) -> None:
        """Nothing is held and nothing can be found."""
        self.private = 0
        self._used.clear()
        self._idle.clear()

    def _evict(self) -> None:
        while self._idle and len(self._idle) * self._piece > self.free:
            self._idle.popitem(last=False)
