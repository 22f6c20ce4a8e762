"""Services as a scenario file says them."""

from pathlib import Path

import pytest

from simulator.inference.expected import Expected
from simulator.scenario import ScenarioError, make, read

HEAD = """
nodes = 4
[[service]]
name = "chat"
model = "m"
nodes = 3
[service.spec]
"""


def write(folder: Path, text: str) -> str:
    path = folder / "serving.toml"
    path.write_text(HEAD + text)
    return str(path)


def test_a_service_is_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl").write_text('{"timestamp": 0, "input_length": 900, "output_length": 20}\n')
    load = f'load = {{ kind = "trace", trace = "{tmp_path / "trace.jsonl"}" }}'
    service = make(read(write(tmp_path, f'engine = "sglang"\nprefill = 1\nmode = "events"\n{load}\n'))).services["chat"]
    service.cluster.now += 5.0
    service.advance(service.cluster.now)
    assert [engine.core.role for engine in service.engines] == ["prefill", "decode", "decode"]
    assert "sglang:num_running_reqs" in service.page(service.engines[1])
    assert service.engines[0].view.meter.prompt_tokens >= 900


def test_the_closed_form_is_the_default(tmp_path: Path) -> None:
    service = make(read(write(tmp_path, "load = { rate = 3.0 }\n"))).services["chat"]
    assert all(isinstance(engine.core, Expected) for engine in service.engines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param('engine = "tgi"', "Invalid enum value", id="an engine nobody writes pages of"),
        pytest.param("prefill = 3", "service 'chat': 3 prefill instances of 3", id="nobody decodes"),
        pytest.param('shape = "gpt-9"', "service 'chat': .*gpt-9", id="a model nobody knows"),
        pytest.param('load = { kind = "trace", trace = "/none" }', "service 'chat': /none: .*No such file", id="a trace that is missing"),
        pytest.param('load = { kind = "trace" }', "trace", id="a trace without a file"),
        pytest.param("load = { rate = 0 }", "rate", id="no requests"),
        pytest.param("limits = { max_num_seq = 3 }", "unknown field `max_num_seq`", id="a setting that is no setting"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, text + "\n")
    with pytest.raises(ScenarioError, match=said) as caught:
        read(path)
    assert path in str(caught.value)
