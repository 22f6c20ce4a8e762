"""The present as events tell it: one source with a wrong clock moves nothing."""

import pytest

from exporters.present import CONFIRM, Present


@pytest.mark.parametrize(
    ("heard", "now"),
    [
        pytest.param([("a", 100.0)], 100.0, id="the first is believed"),
        pytest.param([("a", 100.0), ("b", 130.0), ("a", 120.0)], 130.0, id="time never goes back"),
        pytest.param([("a", 100.0), ("b", 9e9), ("b", 9e9), ("a", 110.0), ("b", 9e9)], 110.0, id="one clock runs wild among others"),
        pytest.param([("a", 100.0), ("b", 9000.0), ("a", 9000.5)], 9000.5, id="two agree that much time has passed"),
        pytest.param([("a", 100.0)] + [("a", 9000.0)] * CONFIRM, 100.0, id="the only source leaps"),
        pytest.param([("a", 100.0)] + [("a", 9000.0)] * (CONFIRM + 1), 9000.0, id="the only source goes on after a pause"),
    ],
)
def test_the_present(heard: list[tuple[str, float]], now: float) -> None:
    present = Present(goes_on=False)
    for source, at in heard:
        present.hear(source, at)
    assert present.now() == now


def test_the_service_is_believed_at_once() -> None:
    present = Present(goes_on=False)
    present.hear("a", 100.0)
    present.know(9000.0)
    assert present.now() == 9000.0


def test_outside_a_simulation_time_goes_on_while_nothing_is_heard() -> None:
    present = Present(goes_on=True)
    present.hear("a", 100.0)
    first = present.now()
    while (second := present.now()) == first:
        pass
    assert first >= 100.0
    assert second > first
