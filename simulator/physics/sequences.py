"""How long the documents of a batch are: what makes equal tokens unequal work."""

import numpy as np

_MOST = 64  # documents looked at per sequence; what they leave is one more document


def packed_squares(
    chance: np.random.Generator, shape: tuple[int, int], *, sequence: int, median: float = 800.0, sigma: float = 1.3
) -> np.ndarray:
    """Sums of the squares of documents' lengths over the square of the sequence, of the given shape (micro-batches, dp).

    Documents are packed into sequences of full length and attend only to themselves, so the matrices' work is the same
    everywhere and attention's is not: 1 where one document fills a sequence. Lengths are log-normal, a long tail as in
    production corpora (Lin et al., OSDI'25, arXiv:2505.05713, find uneven lengths behind a fifth of straggling jobs);
    median (tokens) and sigma are assumed
    """
    lengths = np.minimum(np.exp(chance.normal(np.log(median / sequence), sigma, (*shape, _MOST))), 1.0)
    ends = np.minimum(np.cumsum(lengths, axis=-1), 1.0)
    held = np.diff(ends, axis=-1, prepend=0.0)
    rest = 1.0 - ends[..., -1]
    return np.asarray((held**2).sum(axis=-1) + rest**2)


def uneven_lengths(chance: np.random.Generator, shape: tuple[int, int], *, mean: float = 0.5, sigma: float = 0.5) -> np.ndarray:
    """Lengths over the full length where sequences are neither packed nor padded, of the given shape: log-normal, at most 1."""
    return np.clip(np.exp(chance.normal(np.log(mean) - sigma**2 / 2, sigma, shape)), 0.01, 1.0)
