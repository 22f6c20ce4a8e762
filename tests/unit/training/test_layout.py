"""Lines of a shape that was met before are read as lines are that were not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.training.forms import told
from detectors.training.layout import LEAST_SEEN, Layouts, layout_of
from tests.unit.training.test_steplines import MEGATRON, NO_LOSS, SECONDS, TOKENS

DICT = "{'loss': 2.5, 'grad_norm': 0.25, 'learning_rate': 1.2e-05, 'epoch': 1.5}"
JSON = '{"current_steps": 40, "total_steps": 900, "loss": 2.5, "lr": 1e-05, "epoch": 0.5, "elapsed_time": "1 day, 5:13:22"}'
PLAIN = "step:40/1530 train_loss:9.5 train_time:31724ms step_avg:174.05ms"
LOSSES = {MEGATRON: "9.125000E+00", SECONDS: "2.5E+00", TOKENS: "1.5E+00", DICT: "2.5", JSON: "2.5", PLAIN: "9.5"}
LINES = tuple(LOSSES)


@pytest.mark.parametrize("loss", ["1.25", "nan", "NaN", "inf"])
@pytest.mark.parametrize("line", LINES)
def test_a_shape_is_learned_from_one_line(line: str, loss: str) -> None:
    row = told(line)
    assert row is not None
    layout = layout_of(line, row)
    assert layout is not None
    later = line.replace(f" {LOSSES[line]}", f" {loss}").replace(f":{LOSSES[line]}", f":{loss}")
    assert later != line
    assert repr(layout.told(later)) == repr(told(later))


def test_a_line_without_a_loss_teaches_nothing() -> None:
    row = told(NO_LOSS)
    assert row is not None
    assert layout_of(NO_LOSS, row) is None


LAYOUTS = {line: layout for line in LINES if (row := told(line)) is not None and (layout := layout_of(line, row)) is not None}
_PUT = st.sampled_from(["", "-", "1", "nan", " ", "  ", ",", "1e5", "9" * 13, ".", "x", "|", "'", "[default3]: "])


@given(
    line=st.sampled_from(LINES), at=st.integers(0, 300), cut=st.integers(0, 12),
    put=st.one_of(_PUT, st.text("0123456789.-eE ", max_size=8)),
)
@settings(max_examples=300, deadline=None)
def test_whatever_a_known_shape_reads_is_what_is_written(line: str, at: int, cut: int, put: str) -> None:
    changed = line[:at] + put + line[at + cut :]
    row = LAYOUTS[line].told(changed)
    assert row is None or repr(row) == repr(told(changed))


def test_another_writer_is_of_another_shape() -> None:
    layout = LAYOUTS[SECONDS]
    assert layout.told(SECONDS.replace("[default7]", "[default3]")) is None


def test_lines_of_ever_new_shapes_are_given_up() -> None:
    layouts = Layouts()
    for n in range(200):
        line = f"step:{n} loss:2.5 {'x' * n}:1"
        row = told(line)
        assert row is not None
        layouts.learn(line, row)
    assert len(layouts._known) <= 16
    assert LEAST_SEEN > 1
