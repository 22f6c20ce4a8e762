"""What the simulated cluster writes is what the real things write: every stream, read by its own parser."""

import json
from collections import Counter

import pytest

from collectors.kmsg import parse_record
from collectors.podstates import States
from holdfast.api.records import Batch, DumpRecord, JobRecord, ProcessRecord, StepsRecord, batch_of, observations_of
from holdfast.events import Dumps, Order
from holdfast.faults import Verb
from holdfast.simulation import Agents
from holdfast.topology import JobId
from simulator.scenario import make
from simulator.stories.kinds import kinds
from simulator.stories.story import Story
from simulator.training import Stuck
from simulator.world import World
from tests.unit.simulator.small import scenario


def told(kind: str, rank: int) -> Story:
    """A story of the job "train"."""
    return kinds()[kind].of("train", rank)


def lived(seconds: float, *stories: Story) -> World:
    """The small cluster after a minute of health and then so many seconds with these stories."""
    world = make(scenario())
    world.advance(world.cluster.now + 60.0)
    for story in stories:
        world.tell(story)
    world.advance(world.cluster.now + seconds)
    return world


def batches(world: World) -> list[Batch]:
    return [batch_of(body) for body in world.cluster.agents.fetch()]


def test_every_batch_is_one_by_the_protocol_and_numbers_are_contiguous() -> None:
    sent = batches(lived(60.0, told("ecc", 3)))
    for batch in sent:
        assert observations_of(batch)
    for agent in {(batch.agent, batch.boot) for batch in sent}:
        numbers = [batch.sequence for batch in sent if (batch.agent, batch.boot) == agent]
        assert numbers == list(range(1, len(numbers) + 1))


def test_an_idle_nodes_agent_sends_empty_batches_and_a_busy_ones_tells_of_its_own_ranks() -> None:
    sent = batches(lived(60.0))
    idle = [batch for batch in sent if batch.agent == "node0005"]
    assert idle
    assert all(batch.records == () and batch.job == "" for batch in idle)
    steps = [record for batch in sent if batch.agent == "node0002" for record in batch.records if isinstance(record, StepsRecord)]
    assert {tuple(record.ranks) for record in steps} == {tuple(range(8, 16))}


def test_a_loss_that_is_no_number_is_told_beside_it() -> None:
    world = lived(0.0)
    world.cluster.agents.fetch()
    world.tell(told("loss_nan", 0))
    world.advance(world.cluster.now + 20.0)
    record = [r for batch in batches(world) for r in batch.records if isinstance(r, StepsRecord)][-1]
    row = dict(zip(record.signals, record.values[0], strict=True))
    assert (row["loss"], row["loss_nan"]) == (None, 1.0)


def test_a_job_is_told_by_the_agent_beside_rank_0_with_its_facts() -> None:
    told = [(batch.agent, r) for batch in batches(lived(0.0)) for r in batch.records if isinstance(r, JobRecord) and batch.job == "train"]
    assert [(agent, record.state, record.world_size) for agent, record in told] == [("node0001", "started", 32)]
    assert told[0][1].facts["devices"] == 32


def test_an_agent_that_was_cut_off_sends_its_spool_and_the_batch_in_doubt_once_more() -> None:
    world = lived(90.0, told("heartbeat_lost", 0))
    bodies = world.cluster.agents.fetch()
    numbers = [batch.sequence for batch in map(batch_of, bodies) if batch.agent == "node0001"]
    assert [number for number, times in Counter(numbers).items() if times > 1] != []
    agents = Agents(lambda: bodies)
    heard = [seen.sequence for seen in agents.poll(0.0) if hasattr(seen, "sequence") and seen.source == "agent:node0001"]
    assert heard == list(range(1, max(numbers) + 1))
    assert agents.door.repeats == 1


def test_kernel_messages_are_records_of_dev_kmsg() -> None:
    world = lived(10.0, told("ecc", 3))
    written = world.cluster.fetch_kernel(0.0)
    records = [parse_record(data) for _, data, _ in written]
    assert [record.sequence for record in records] == list(range(len(records)))
    assert {(node, job) for node, _, job in written} == {("node0001", "train")}
    assert "Xid" in records[0].text


def test_job_logs_are_bytes_of_the_rank_s_file() -> None:
    logs = lived(10.0).cluster.fetch_logs(0.0)
    assert {file for file, _, _, _ in logs} == {"attempt-0/rank0.log", "attempt-0/rank31.log"}
    assert all(data.endswith(b"\n") for _, data, _, _ in logs)


def test_pods_and_nodes_are_told_as_watch_events() -> None:
    world = lived(30.0, told("pod_deleted", 9))
    written = world.cluster.fetch_watch(0.0)
    assert {json.loads(line)["object"]["kind"] for line in written} == {"Pod", "Node"}
    states = States()
    changes = [(job, c.target.id, c.state) for line in written for job, c in states.changes_of(line, world.cluster.now)]
    assert changes[:4] == [("train", f"train-worker-{n}", "pending") for n in range(4)]
    assert changes[-1] == ("train", "train-worker-1", "deleted")


@pytest.mark.parametrize(
    ("story", "records"),
    [
        pytest.param(told("host_hang", 9), {"fr_rank9", "stacks_rank9.json", "rank9.json"}, id="a rank that hangs answers"),
        pytest.param(told("rank_stopped", 9), {"fr_rank9", "stacks_rank9.json", "rank9.json"}, id="a stopped one has an error"),
    ],
)
def test_a_collection_comes_from_each_agent_and_the_last_record_is_marked(story: Story, records: set[str]) -> None:
    world = lived(30.0, story)
    world.cluster.agents.fetch()
    world.collect(Order(at=0.0, id="i1/collect/1", incident="i1", job=JobId("train"), verb=Verb.COLLECT))
    world.advance(world.cluster.now + 1.0)
    sent = [batch for batch in batches(world) if any(isinstance(r, DumpRecord) for r in batch.records)]
    assert [batch.agent for batch in sent] == ["node0001", "node0002", "node0003", "node0004"]
    dumps = [seen for batch in sent for seen in observations_of(batch) if isinstance(seen, Dumps)]
    assert sum(seen.complete for seen in dumps) == 4
    assert {d.name for seen in dumps for d in seen.dumps if d.target.id == "9"} == records


def test_a_process_that_ended_is_told_and_gives_no_dump() -> None:
    world = lived(0.0)
    job = world.jobs["train"]
    job.stuck = Stuck("gone", 9)
    job.end(9, signal=9)
    world.advance(world.cluster.now + 1.0)
    ended = [r for batch in batches(world) for r in batch.records if isinstance(r, ProcessRecord) and r.state == "exited"]
    assert [(record.rank, record.signal) for record in ended] == [(9, 9)]
    world.collect(Order(at=0.0, id="i1/collect/1", incident="i1", job=JobId("train"), verb=Verb.COLLECT))
    world.advance(world.cluster.now + 1.0)
    names = {r.name for batch in batches(world) for r in batch.records if isinstance(r, DumpRecord)}
    assert "fr_rank8" in names
    assert "fr_rank9" not in names


def test_after_the_collectives_timeout_every_rank_but_the_guilty_one_says_so_and_the_job_ends() -> None:
    world = lived(640.0, told("host_hang", 9))
    logs = {file: data.decode() for file, data, _, _ in world.cluster.fetch_logs(0.0) if b"Watchdog caught" in data}
    assert set(logs) == {f"attempt-0/rank{rank}.log" for rank in range(32) if rank != 9}
    assert (world.jobs["train"].state, set(world.jobs["train"].ended)) == ("failed", set(range(32)) - {9})
