"""The journal: every step's inputs and decisions in one SQLite file, one transaction a step. It is the truth.

After a crash the last snapshot is restored and the inputs after it are decided again: the same state, because no stage
reads the clock or chance. The hash is over the canonical text of what was decided.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from holdfast.events import Order, Outcome, Received, Said, Transition
from holdfast.wire import Heard, canonical, inputs_of_bytes, inputs_to_bytes, said_of_text

FORMAT = "1"

_tables = sa.MetaData()
META = sa.Table(
    "meta", _tables, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
STEPS = sa.Table(
    "steps",
    _tables,
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("inputs", sa.LargeBinary),  # null: there were none, or they are older than the snapshots kept
)
SAID = sa.Table(
    "said",
    _tables,
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("incident", sa.Text, nullable=False, index=True),
    sa.Column("text", sa.Text, nullable=False),
)
ACKS = sa.Table(
    "acks",
    _tables,
    sa.Column("agent", sa.Text, primary_key=True),
    sa.Column("boot", sa.Text, primary_key=True),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
SNAPSHOTS = sa.Table(
    "snapshots",
    _tables,
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("memory", sa.LargeBinary, nullable=False),
)
# Orders are released after the commit; one with no outcome here may or may not have reached its backend.
ORDERS = sa.Table(
    "orders",
    _tables,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("step", sa.Integer),
    sa.Column("text", sa.Text),
    sa.Column("settled", sa.Boolean, nullable=False),
)

_BOOTS_KEPT = 8


class JournalError(RuntimeError):
    """The file is not a journal, or not of this format."""


class Written(NamedTuple):
    """One step as it was written. said: canonical lines."""

    step: int
    at: float
    inputs: list[Heard]
    said: list[str]


class Journal:
    """A journal file, made if it is not there.

    snapshots_kept: older snapshots, and the inputs before them, are dropped; 0 keeps everything
    raises JournalError: the file is something else
    """

    def __init__(self, path: Path, *, snapshots_kept: int = 2) -> None:
        self.path, self.snapshots_kept = path, snapshots_kept
        self._engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.pool.StaticPool)
        try:
            self._db = self._engine.connect()
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
                self._db.exec_driver_sql(f"PRAGMA {pragma}")
            _tables.create_all(self._db)
            self._db.commit()
            found = self.meta("format")
        except sa.exc.DatabaseError as error:
            raise JournalError(f"journal {path}: {error.orig}") from error
        if found is None:
            self.set_meta("format", FORMAT)
        elif found != FORMAT:
            raise JournalError(f"journal {path}: format {found}, this program writes {FORMAT}")
        self._step: int = self._db.execute(sa.select(sa.func.max(STEPS.c.step))).scalar() or 0

    def close(self) -> None:
        """Close the file; what is committed stays."""
        self._db.close()
        self._engine.dispose()

    # --- writing

    def commit(self, now: float, inputs: Sequence[Heard], said: Sequence[Said]) -> None:
        """Write one step in one transaction; when this returns it survives the end of the process."""
        self._step += 1
        blob = inputs_to_bytes(list(inputs)) if inputs else None
        self._db.execute(sa.insert(STEPS), {"step": self._step, "at": now, "inputs": blob})
        if said:
            self._db.execute(sa.insert(SAID), [_row(self._step, n, event) for n, event in enumerate(said)])
        self._note_orders(inputs, said)
        for batch in inputs:
            if isinstance(batch, Received):
                self._acknowledge(batch)
        self._db.commit()

    def _note_orders(self, inputs: Sequence[Heard], said: Sequence[Said]) -> None:
        for event in (*said, *inputs):
            if isinstance(event, Order):
                row = {"id": event.id, "step": self._step, "text": canonical(event), "settled": False}
                self._db.execute(sa.insert(ORDERS).prefix_with("OR IGNORE"), row)
            elif isinstance(event, Outcome):
                self._db.execute(sa.update(ORDERS).where(ORDERS.c.id == event.order).values(settled=True))

    def _acknowledge(self, batch: Received) -> None:
        mine = (ACKS.c.agent == batch.agent) & (ACKS.c.boot == batch.boot)
        done = self._db.execute(sa.update(ACKS).where(mine).values(sequence=batch.sequence, at=batch.at))
        if not done.rowcount:
            row = {"agent": batch.agent, "boot": batch.boot, "sequence": batch.sequence, "at": batch.at}
            self._db.execute(sa.insert(ACKS), row)
            newest = (
                sa.select(ACKS.c.boot).where(ACKS.c.agent == batch.agent).order_by(ACKS.c.at.desc()).limit(_BOOTS_KEPT)
            )
            self._db.execute(sa.delete(ACKS).where((ACKS.c.agent == batch.agent) & ACKS.c.boot.not_in(newest)))

    def snapshot(self, memory: dict[str, bytes]) -> None:
        """Keep what the stages remember after the last step; forget inputs that no kept snapshot needs."""
        row = {"step": self._step, "memory": msgspec.msgpack.encode(memory)}
        self._db.execute(sa.insert(SNAPSHOTS).prefix_with("OR REPLACE"), row)
        if self.snapshots_kept:
            steps = sa.select(SNAPSHOTS.c.step).order_by(SNAPSHOTS.c.step.desc())
            kept = list(self._db.execute(steps.limit(self.snapshots_kept)).scalars())
            self._db.execute(sa.delete(SNAPSHOTS).where(SNAPSHOTS.c.step < kept[-1]))
            self._db.execute(sa.delete(STEPS).where(STEPS.c.step < kept[-1]))
        self._db.commit()

    def set_meta(self, name: str, value: str) -> None:
        """Keep a word about the journal itself."""
        self._db.execute(sa.insert(META).prefix_with("OR REPLACE"), {"name": name, "value": value})
        self._db.commit()

    # --- reading

    def meta(self, name: str) -> str | None:
        """A word about the journal itself, None if it was never set."""
        return self._db.execute(sa.select(META.c.value).where(META.c.name == name)).scalar()

    def acknowledged(self) -> dict[tuple[str, str], int]:
        """The last committed batch of each (agent, boot)."""
        return {(row.agent, row.boot): row.sequence for row in self._db.execute(sa.select(ACKS))}

    def last_snapshot(self, *, first: bool = False) -> tuple[int, dict[str, bytes]]:
        """The newest (or the oldest kept) snapshot and the step it was taken after; (0, {}) if there is none."""
        order = SNAPSHOTS.c.step if first else SNAPSHOTS.c.step.desc()
        row = self._db.execute(sa.select(SNAPSHOTS).order_by(order).limit(1)).first()
        return (row.step, msgspec.msgpack.decode(row.memory, type=dict[str, bytes])) if row else (0, {})

    def steps(self, *, after: int = 0) -> Iterator[Written]:
        """Every step after the given one, oldest first.

        raises JournalError: an input cannot be read; the message names the step
        """
        for row in self._db.execute(sa.select(STEPS).where(STEPS.c.step > after).order_by(STEPS.c.step)).fetchall():
            said = self._db.execute(sa.select(SAID.c.text).where(SAID.c.step == row.step).order_by(SAID.c.n)).scalars()
            try:
                inputs = inputs_of_bytes(row.inputs) if row.inputs is not None else []
            except (msgspec.MsgspecError, ValueError) as error:
                raise JournalError(f"journal {self.path}, step {row.step}: {error}") from error
            yield Written(row.step, row.at, inputs, list(said))

    def said(self) -> Iterator[Said]:
        """Everything ever decided, oldest first."""
        for text in self._db.execute(sa.select(SAID.c.text).order_by(SAID.c.step, SAID.c.n)).scalars():
            yield said_of_text(text)

    def unsettled(self) -> list[Order]:
        """Orders that have no outcome yet, oldest first."""
        rows = self._db.execute(sa.select(ORDERS.c.text).where(ORDERS.c.settled.is_(False)).order_by(ORDERS.c.step))
        return [order for text in rows.scalars() if isinstance(order := said_of_text(text), Order)]

    def sha256(self) -> str:
        """The hash over the canonical text of all that was decided."""
        digest = hashlib.sha256()
        for text in self._db.execute(sa.select(SAID.c.text).order_by(SAID.c.step, SAID.c.n)).scalars():
            digest.update(text.encode() + b"\n")
        return digest.hexdigest()


def _row(step: int, n: int, event: Said) -> dict[str, object]:
    incident = (
        event.incident.id if isinstance(event, Transition) else event.incident if isinstance(event, Order) else ""
    )
    id = event.order if isinstance(event, Outcome) else event.id
    kind = type(event).__name__.lower()
    return {"step": step, "n": n, "type": kind, "id": id, "incident": incident, "text": canonical(event)}
