"""What is a scenario and what is not, when faults come, and what a job's physics makes of its steps."""

import json
from pathlib import Path

import numpy as np
import pytest

from simulator.arrivals import Rates, at_rates, classes, each_once, so_many, unknown_kinds
from simulator.scenario import Scenario, ScenarioError, make, read, schema, stories
from simulator.stories.kinds import kinds

LIBRARY = Path(__file__).resolve().parents[3] / "simulator" / "scenarios"
JOB = 'nodes = 4\n[[job]]\nname = "a"'
SECOND = '[[job]]\nname = "a"\nnodes = 1'
PLANNED = """
nodes = 6
[[job]]
name = "q"
nodes = 4
tp = 8
pp = 2
model = "{model}"
global_batch = 64
{more}
"""


def written(folder: Path, text: str) -> str:
    file = folder / "told.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("nodes = 0", "`int` >= 1 - at `$.nodes`", id="no cluster"),
        pytest.param("nodes = 4\nfoo = 1", "unknown field `foo`", id="a key nobody knows"),
        pytest.param("nodes = 4\n[fabric]\nrack = 1", "`rack` - at `$.fabric`", id="a key nobody knows in a table"),
        pytest.param('nodes = 4\n[[fault]]\nkind = "x"\nat_s = 1.0', "fault 'x': known are", id="a fault nobody knows"),
        pytest.param(JOB + '\nnodes = 5', "want more than 4 nodes", id="a job that does not fit"),
        pytest.param(JOB + '\nnodes = 1\npp = 3', "no multiple of tp x pp = 24", id="ranks that do not divide"),
        pytest.param(JOB + '\nnodes = 2\npp = 2\nstages = [1.0]', "1 stages are told of 2", id="stages that are missing"),
        pytest.param(JOB + '\nnodes = 1\n' + SECOND, "two jobs or services 'a'", id="one name twice"),
        pytest.param(
            JOB + '\nnodes = 1\n[[fault]]\nkind = "ecc"\nat_s = 1.0\njob = "b"', "no job or service 'b'", id="no such job",
        ),
        pytest.param(PLANNED.format(model="none-7b", more=""), "job 'q': ", id="a model nobody knows"),
        pytest.param(PLANNED.format(model="llama3-405b", more=""), "job 'q': ", id="a model that does not fit its devices"),
        pytest.param("nodes = [", "told.toml: ", id="no TOML"),
    ],
)  # fmt: skip
def test_what_is_no_scenario_is_refused_with_file_and_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=r"told\.toml: ") as refused:
        read(written(tmp_path, text))
    assert says in str(refused.value)


@pytest.mark.parametrize("name", sorted(file.stem for file in LIBRARY.glob("*.toml")))
def test_the_scenarios_that_come_with_it_are_scenarios_and_have_their_faults(name: str) -> None:
    told = read(name)
    assert len(stories(told, make(told))) >= 2


def test_the_schema_is_one_of_the_whole_scenario() -> None:
    told = json.loads(json.dumps(schema()))
    assert set(told["$defs"]["Scenario"]["properties"]) == set(Scenario.__struct_fields__)


def test_a_job_with_a_model_steps_as_its_physics_says(tmp_path: Path) -> None:
    world = make(read(written(tmp_path, PLANNED.format(model="llama3-8b", more="checkpoint = 'async'"))))
    job = world.jobs["q"]
    assert job.plan is not None
    nodes = job.nodes
    usual = np.mean([job.work.seconds(step, nodes) for step in range(200)])
    assert abs(usual / job.plan.steady.step_s - 1.0) < 0.01
    job.slow[9] = 1.3
    late = job.work.seconds(7, nodes)
    phases = job.work.phases(7, nodes)
    assert late > 1.08 * usual
    assert np.allclose(phases.sum(axis=1), late, rtol=1e-6)
    assert int(phases[:, :2].sum(axis=1).argmax()) == 9
    job.slow.clear()
    assert job.work.seconds(7, nodes) < 1.03 * usual


def test_every_story_of_the_rates_is_one_and_every_class_has_some() -> None:
    assert unknown_kinds() == []
    assert all(one.stories and one.per_1000_node_days > 0 for one in classes().values())


def test_there_are_at_least_forty_stories_over_all_faults() -> None:
    faults = {kind.truth.fault.value for kind in kinds().values()}
    assert len(kinds()) >= 40
    assert len(faults) == 19


def test_faults_come_as_often_as_the_rates_say_and_lemons_again_and_again() -> None:
    day_s, nodes = 86_400.0, 400
    plain = Rates(infant_share=0.0, lemon_share=0.0)
    found = at_rates(plain, 1, nodes=nodes, begin_s=0.0, until_s=10 * day_s)
    expected = sum(one.per_1000_node_days for one in classes().values()) * nodes / 1000 * 10
    assert 0.6 * expected < len(found) < 1.4 * expected
    lemons = at_rates(Rates(infant_share=0.0, lemon_share=1.0, lemon_days=1.0), 1, nodes=20, begin_s=0.0, until_s=10 * day_s)
    assert min(sum(one.node == node for one in lemons) for node in range(20)) >= 2
    new = at_rates(Rates(infant_share=1.0, infant_times=200.0, lemon_share=0.0), 1, nodes=nodes, begin_s=0.0, until_s=day_s)
    early = sum(one.at_s < day_s / 2 for one in new)
    assert early > 3 * (len(new) - early)


def test_a_further_node_changes_no_other_nodes_faults() -> None:
    few, more = (at_rates(Rates(), 5, nodes=nodes, begin_s=0.0, until_s=1e7) for nodes in (50, 51))
    assert few == [one for one in more if one.node != 50]


def test_each_kind_comes_once_and_a_count_is_kept() -> None:
    names = ("ecc", "gpu_lost", "nic_down")
    assert sorted(one.kind for one in each_once(names, 1, begin_s=0.0, spacing_s=10.0)) == sorted(names)
    assert len(so_many(17, 1, begin_s=0.0, until_s=100.0)) == 17
    told = stories(scenario := read("day-1024"), make(scenario))
    assert len(told) == 40
    assert [at for at, _ in told] == sorted(at for at, _ in told)
