"""The simulated process groups against those of a real job."""

import pickle

from simulator.evidence.groups import Layout
from tests.field.where import data


def test_groups_are_numbered_as_in_a_real_job() -> None:
    folder = data("flightrecorder", "nccl_16rank")
    layout = Layout(dp=2, tp=2, pp=4, ep=4, etp=1)
    for rank in range(layout.world):
        real = pickle.loads((folder / f"_dump_{rank}").read_bytes())
        local = {group.name: number for number, group in enumerate(layout.own[rank])}
        for name, told in real["pg_config"].items():
            group = layout.groups[name]
            assert (group.desc, str(list(group.ranks))) == (told["desc"], told["ranks"])
        assert {local[e["process_group"][0]] for e in real["entries"]} == {e["pg_id"] for e in real["entries"]}


def test_records_have_the_fields_of_real_ones() -> None:
    from simulator.evidence.scene import Recording, Scene
    from simulator.evidence.stand import Stand

    real = pickle.loads((data("flightrecorder", "nccl_16rank") / "_dump_0").read_bytes())
    scene = Scene(layout=Layout(dp=2, tp=2, pp=2), recording=Recording(versions=(real["version"],)))
    made = pickle.loads(Stand(scene).recorder(0))
    assert list(made) == list(real)
    assert list(made["entries"][0]) == list(real["entries"][0])
    assert [type(v) for v in made["entries"][0].values() if v is not None][:9] == [
        type(v) for v in real["entries"][0].values()
    ][:9]
