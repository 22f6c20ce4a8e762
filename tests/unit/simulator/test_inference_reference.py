"""The published serving figures, from the model: every one within what it may be off."""

import pytest

from simulator.inference.reference import PUBLISHED, measured


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_model_gives_the_published_figures(seed: int) -> None:
    figures = measured(seed=seed)
    off = {figure.name: figures[figure.name] / figure.value - 1.0 for figure in PUBLISHED}
    assert {name: share for (name, share), figure in zip(off.items(), PUBLISHED, strict=True) if abs(share) > figure.within} == {}
