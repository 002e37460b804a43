"""The real loop's work on a real store, with steps that fail, hang and die at any line.

A model of one environment: its metadata database, the copies of it, and what runs. Whatever is
drawn, in any order, the environment ends settled on one whole state, and until then the row
always says how to get back to the last one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from openmwaa.environments.errors import DomainError
from openmwaa.environments.ids import new_environment_id
from openmwaa.environments.record import (
    COPIED,
    FAILING_SINCE,
    MAINTENANCE,
    RESTORE_FROM,
    UNDO,
    EnvironmentRecord,
)
from openmwaa.environments.spec import EnvironmentSpec
from openmwaa.environments.status import Status
from openmwaa.kit.errors import GiveUp, Retry, Waiting
from openmwaa.kit.keyring import LocalKeyring
from openmwaa.reconcile.cycle import Cycle
from openmwaa.reconcile.loop import Reconciler
from openmwaa.reconcile.parts import StepResult
from openmwaa.reconcile.plan import Step, next_step
from openmwaa.store import Store
from openmwaa.store.leases import Lease, LeaseLostError, Outcome
from tests.support.postgres import a_database, a_postgres
from tests.support.specs import a_spec, an_arn

pytestmark = pytest.mark.timeout(280)

T = TypeVar("T")
TTL = timedelta(minutes=1)
SETTLED = {
    Status.AVAILABLE,
    Status.CREATE_FAILED,
    Status.UPDATE_FAILED,
    Status.UNAVAILABLE,
    Status.DELETED,
}
_CHANGING = {Status.UPDATING, Status.MAINTENANCE}
FOLLOWS = {
    Status.CREATING: {Status.AVAILABLE, Status.CREATE_FAILED},
    Status.CREATE_FAILED: {Status.DELETING},
    Status.AVAILABLE: {*_CHANGING, Status.DELETING},
    Status.UPDATE_FAILED: {*_CHANGING, Status.DELETING},
    Status.UNAVAILABLE: {*_CHANGING, Status.DELETING},
    Status.UPDATING: {Status.CREATING_SNAPSHOT, Status.AVAILABLE, Status.ROLLING_BACK},
    Status.CREATING_SNAPSHOT: {Status.UPDATING, Status.ROLLING_BACK},
    Status.MAINTENANCE: {Status.AVAILABLE, Status.ROLLING_BACK, Status.UPDATING},
    Status.ROLLING_BACK: {Status.UPDATE_FAILED, Status.UNAVAILABLE},
    Status.DELETING: {Status.DELETED},
    Status.DELETED: set(),
}
"""Which status may be seen after which (mwaa.md 2)."""


class Died(BaseException):
    """The process that worked was killed."""


class Broken(BaseException):
    """A rule was broken. No `Exception`: the loop would take it for a step that crashed, and go on."""


def must(holds: object, *found: object) -> None:
    """Raise `Broken` unless a rule holds."""
    if not holds:
        raise Broken(*found)


@dataclass(frozen=True)
class Content:
    """A metadata database: whose rows, written for which version, and whether all of them."""

    rows: str
    version: str
    whole: bool = True


@dataclass
class World:
    """What is outside the store, and the rules that hold at every moment.

    Attributes:
        good: The database as of the last generation that was seen healthy.

        faults: What still goes wrong, next first; one is taken at each step and each write.

        seen: Statuses in the order in which they were seen.
    """

    store: Store
    name: str
    faults: list[str]
    database: Content | None = None
    good: Content | None = None
    copies: dict[str, Content] = field(default_factory=dict)
    running: EnvironmentSpec | None = None
    bucket: str = ""
    seen: list[Status] = field(default_factory=lambda: [Status.CREATING])
    other: Reconciler | None = None
    depth: int = 0

    def fault(self) -> str:
        return self.faults.pop(0) if self.faults else "none"

    async def row(self) -> EnvironmentRecord | None:
        try:
            return await self.store.environments.get(self.name)
        except DomainError:
            return None

    async def check(self) -> None:
        """Assert what must hold after every write."""
        record = await self.row()
        status = record.status if record else Status.DELETED
        if status is not self.seen[-1]:
            must(status in FOLLOWS[self.seen[-1]], self.seen, status)
            self.seen.append(status)
        if record is None or record.deleting or record.good_spec is None:
            return
        if record.observed_generation == record.generation:
            return
        if next_step(record, record.checkpoints) in {None, Step.DROP_COPIES} and (
            record.failed_generation != record.generation
        ):
            return  # verified: nothing is undone any more
        if self.database != self.good:
            label = record.checkpoints.get(COPIED) or record.checkpoints.get(UNDO)
            must(label is not None, record.checkpoints, self.database, self.good)
            must(self.copies.get(str(label)) == self.good, label, self.copies, self.good)


class Steps:
    """Stands for the actor: does each step to the world, or fails at it as was drawn."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def watch(self, record: EnvironmentRecord) -> list[Any]:
        """See nothing."""
        return []

    async def act(self, step: Step, record: EnvironmentRecord) -> StepResult:
        """Do one step."""
        fault = self._world.fault()
        if step is Step.DROP_COPIES and fault in {"give-up", "give-up-after", "half"}:
            fault = "retry"  # no error of this one says that it can never be done
        if fault == "retry":
            raise Retry("not now", after_s=0)
        if fault == "wait":
            raise Waiting("it takes long", after_s=0)
        if fault == "bug":
            raise ZeroDivisionError
        if fault == "give-up":
            raise GiveUp("never")
        if fault == "die":
            raise Died
        if fault == "half":
            self._half(step, record)
            raise GiveUp("it broke in the middle")
        if fault == "die-half":
            self._half(step, record)
            raise Died
        result = self._do(step, record)
        if fault == "die-after":
            raise Died
        if fault == "give-up-after":
            raise GiveUp("too late")
        if fault == "stall":
            await self._overtaken(record)
        return result

    async def _overtaken(self, record: EnvironmentRecord) -> None:
        """Stand still for so long that another control plane takes over and does everything."""
        world = self._world
        if world.other is None or world.depth:
            return
        world.depth += 1
        try:
            await expire(world.store, record.id)
            await work_once(world, world.other, "other")
        finally:
            world.depth -= 1

    def _half(self, step: Step, record: EnvironmentRecord) -> None:
        world = self._world
        if step is Step.MIGRATE_DATABASE and world.database is not None:
            if record.good_spec is not None:
                world.database = world.copies[f"g{record.generation}"]
            world.database = dataclasses.replace(world.database, whole=False)
        if step is Step.RESTORE_DATABASE:
            world.database = None
        if step is Step.STOP_COMPONENTS:
            world.running = None

    def _do(self, step: Step, record: EnvironmentRecord) -> StepResult:
        world, spec = self._world, record.spec
        result = StepResult()
        if step is Step.CREATE_DATABASE:
            world.database = world.database or Content("empty", spec.airflow_version)
        elif step is Step.CREATE_ACCOUNT:
            world.bucket = spec.source_bucket_arn
        elif step is Step.STOP_COMPONENTS:
            world.running = None
        elif step is Step.COPY_DATABASE:
            must(world.running is None, "copied while it runs")
            assert world.database is not None
            must(world.database.whole, "half a database was copied")
            label = f"g{record.generation}"
            world.copies.setdefault(label, world.database)
            result = StepResult(label)
        elif step is Step.MIGRATE_DATABASE:
            must(world.running is None, "migrated while it runs")
            if record.good_spec is not None:
                world.database = world.copies[f"g{record.generation}"]
            assert world.database is not None
            rows = str(record.checkpoints.get(RESTORE_FROM) or world.database.rows)
            world.database = Content(rows, spec.airflow_version)
        elif step is Step.RESTORE_DATABASE:
            must(world.running is None, "restored while it runs")
            world.database = world.copies[str(record.checkpoints[UNDO])]
        elif step is Step.START:
            must(world.database is not None, "started without a database")
            must(world.database.whole, "started on half a database")
            must(world.database.version == spec.airflow_version, "started on another version's database")
            must(world.bucket == spec.source_bucket_arn, "started without access to its bucket")
            world.running = spec
        elif step is Step.DROP_COPIES:
            world.copies.clear()
        elif step is Step.STOP:
            world.running = None
        elif step is Step.DROP_DATABASE:
            world.database, world.copies = None, {}
        return result


class Writes:
    """The leases of the store, whose user may die before or after each write."""

    def __init__(self, world: World) -> None:
        self._leases = world.store.leases
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._leases, name)

    async def checkpoint(self, lease: Lease, record: EnvironmentRecord, *args: Any, **more: Any) -> None:
        """Write a checkpoint."""
        fault = self._world.fault()
        if fault.startswith("die") and fault != "die-after":
            raise Died
        await self._leases.checkpoint(lease, record, *args, **more)
        await self._world.check()
        if fault == "die-after":
            raise Died

    async def finish(self, lease: Lease, record: EnvironmentRecord, outcome: Outcome) -> None:
        """Write an outcome."""
        fault, world = self._world.fault(), self._world
        if fault.startswith("die") and fault != "die-after":
            raise Died
        await self._leases.finish(lease, record, outcome)
        now = await world.row()
        if outcome.observed and now is not None and now.observed_generation == record.generation:
            world.good = world.database
        await world.check()
        if fault == "die-after":
            raise Died


class WatchedStore:
    """A store whose writes of outcomes are watched."""

    def __init__(self, world: World) -> None:
        self._store = world.store
        self.leases = Writes(world)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture(scope="module")
def run() -> Iterator[Any]:
    """A loop in a thread of its own: each example runs to its end in it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cycle")
    thread.start()

    def wait_for(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=120)

    yield wait_for
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=30)
    loop.close()


@pytest.fixture(scope="module")
def store(run: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of this module."""
    key = Path(tmp_path_factory.mktemp("keys")) / "master.key"
    with a_postgres() as server, a_database(server, "cycle") as url:
        opened = run(Store.open(url, LocalKeyring(key)))
        yield opened
        run(opened.close())


FAULTS = st.sampled_from(
    [
        *["none"] * 12,
        "retry",
        "wait",
        "bug",
        "give-up",
        "give-up-after",
        "half",
        "die",
        "die-half",
        "die-after",
        "stall",
    ]
)
VERSION = st.sampled_from(["2.11.2", "3.0.6", "3.3.1"])
ACTIONS = st.one_of(
    st.tuples(st.just("version"), VERSION),
    st.tuples(st.just("restore"), VERSION),
    st.tuples(st.just("option"), st.sampled_from("ab")),
    st.tuples(st.just("bucket"), st.sampled_from("ab")),
    st.tuples(st.just("maintenance"), st.sampled_from("ab")),
    st.tuples(st.just("delete"), st.just("")),
)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    faults=st.lists(FAULTS, max_size=70),
    actions=st.lists(ACTIONS, min_size=1, max_size=5),
    impatience=st.lists(st.integers(0, 3), min_size=5, max_size=5),
)
@example(  # the change to another bucket cannot start: the undoing must give the account its bucket back
    faults=["none"] * 21 + ["give-up"],
    actions=[("bucket", "a"), ("option", "a")],
    impatience=[1, 1, 0, 0, 0],
)
def test_whatever_fails_it_ends_on_one_whole_state(
    store: Store, run: Any, faults: list[str], actions: list[tuple[str, str]], impatience: list[int]
) -> None:
    """Faults at any step and write: no illegal status, no half database in use, a way back until the end."""
    run(history(store, faults, actions, impatience))


async def history(
    store: Store, faults: list[str], actions: list[tuple[str, str]], impatience: list[int]
) -> None:
    """Live through one environment's life and assert that it ends well."""
    await store.database.all("DELETE FROM environments")
    environment_id = new_environment_id()
    await store.environments.create(
        environment_id, a_spec(runtime_id="r"), arn=an_arn(), tags={}, secrets={}, quota=1
    )
    world = World(store, "alpha", list(faults))
    watched: Any = WatchedStore(world)
    steps: Any = Steps(world)
    world.other = Reconciler(watched, steps, holder="other")
    mine = Reconciler(watched, steps, holder="mine")
    for (kind, value), rounds in zip(actions, impatience, strict=False):
        for _ in range(rounds):
            await work_once(world, mine, "mine")
        await ask(world, kind, value)
        await world.check()
    world.faults.clear()
    for _ in range(20):
        await work_once(world, mine, "mine")
        if world.seen[-1] in SETTLED:
            break
    await ended_well(world)


async def work_once(world: World, reconciler: Reconciler, holder: str) -> None:
    """Have one control plane do the work that is due; if it dies, its next life goes on."""
    await world.store.database.all("UPDATE environments SET next_attempt_at = now() WHERE deleted_at IS NULL")
    for _ in range(200):
        taken = await world.store.leases.take_due(holder, TTL)
        if taken is None:
            await expire(world.store, None)
            taken = await world.store.leases.take_due(holder, TTL)
        if taken is None:
            return
        held = await world.store.database.one(
            "SELECT lease_holder FROM environments WHERE deleted_at IS NULL"
        )
        assert held is not None
        assert held["lease_holder"] == holder
        try:
            await reconciler._work(*taken)
        except Died:
            continue
        await world.check()
        record = await world.row()
        if record is None or record.status in SETTLED:
            return
        await world.store.database.all("UPDATE environments SET next_attempt_at = now()")


async def ask(world: World, kind: str, value: str) -> None:
    """Be a caller or the maintenance window; a refusal changes nothing."""
    environments = world.store.environments
    notes = {RESTORE_FROM: f"snapshot-{value}"} if kind == "restore" else None

    def edit(record: EnvironmentRecord) -> EnvironmentSpec:
        if kind in {"version", "restore"}:
            return dataclasses.replace(record.spec, airflow_version=value)
        if kind == "maintenance":
            return record.spec.with_runtime(value)
        if kind == "bucket":
            return dataclasses.replace(record.spec, source_bucket_arn=f"arn:aws:s3:::{value}")
        return dataclasses.replace(record.spec, airflow_configuration_options={"core.x": value})

    try:
        if kind == "delete":
            await environments.request_deletion(world.name)
        else:
            source = MAINTENANCE if kind == "maintenance" else None
            await environments.change(world.name, edit, notes=notes, source=source)
    except DomainError:
        pass


async def expire(store: Store, environment_id: str | None) -> None:
    """Let the time of a lease run out."""
    await store.database.all(
        "UPDATE environments SET lease_expires_at = now() - interval '1 second'"
        " WHERE lease_expires_at IS NOT NULL AND (%(id)s::text IS NULL OR id = %(id)s)",
        {"id": environment_id},
    )


async def ended_well(world: World) -> None:
    """Assert that nothing is between two states."""
    status, record = world.seen[-1], await world.row()
    assert status in SETTLED, world.seen
    if record is None:
        assert world.database is None
        assert world.running is None
        assert not world.copies
        return
    assert record.status is status
    if status in {Status.AVAILABLE, Status.UPDATE_FAILED}:
        assert world.running == record.spec == record.good_spec
        assert world.database == world.good
        assert world.database is not None
        assert world.database.whole
        assert world.database.version == record.spec.airflow_version
        assert not world.copies, "a copy was left"
        assert UNDO not in record.checkpoints


class OneStep:
    """An actor whose every step says what it was told to."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    async def act(self, step: Step, record: EnvironmentRecord) -> StepResult:
        """Fail as long as there are errors left."""
        if self._errors:
            raise self._errors.pop(0)
        return StepResult()


def test_a_lost_lease_writes_no_checkpoint(store: Store, run: Any) -> None:
    """Of two holders the one with the older number stops at its next write, and nothing of it counts."""

    async def body() -> None:
        lease, record = await fresh(store)
        await expire(store, record.id)
        assert await store.leases.take_due("other", TTL) is not None
        actor: Any = OneStep()
        with pytest.raises(LeaseLostError):
            await Cycle(store, actor, lease, record).run()
        assert (await store.environments.get("alpha")).checkpoints == {}

    run(body())


def test_a_lease_that_was_given_back_is_not_renewed(store: Store, run: Any) -> None:
    """It would belong to nobody, and nobody could take it."""

    async def body() -> None:
        lease, record = await fresh(store)
        await store.leases.finish(lease, record, Outcome(next_in=timedelta(0)))
        with pytest.raises(LeaseLostError):
            await store.leases.renew(lease, TTL)
        assert await store.leases.take_due("other", TTL) is not None

    run(body())


@pytest.mark.parametrize(("minutes", "gives_up"), [(29, False), (31, True)])
def test_half_an_hour_of_failing_at_one_step_is_the_end(
    store: Store, run: Any, minutes: int, gives_up: bool
) -> None:
    """The limit counts from the first failure in a row, not from the request."""

    async def body() -> None:
        lease, record = await fresh(store)
        since = datetime.now(UTC) - timedelta(minutes=minutes)
        old = dataclasses.replace(
            record,
            attempts=9,
            checkpoints={FAILING_SINCE: since.isoformat()},
            last_update=dataclasses.replace(record.last_update, created_at=since - timedelta(hours=3)),
        )
        actor: Any = OneStep()
        outcome = Cycle(store, actor, lease, old).failed_attempt("no answer", timedelta(seconds=1))
        assert outcome.failed == gives_up

    run(body())


def test_a_change_that_drained_for_hours_survives_a_hiccup(store: Store, run: Any) -> None:
    """A step that cannot be asked once, hours after the request, is tried again."""

    async def body() -> None:
        lease, record = await fresh(store)
        hours_ago = datetime.now(UTC) - timedelta(hours=5)
        old = dataclasses.replace(
            record, last_update=dataclasses.replace(record.last_update, created_at=hours_ago)
        )
        actor: Any = OneStep()
        cycle = Cycle(store, actor, lease, old)
        outcome = cycle.failed_attempt("the node agent does not answer", timedelta(seconds=1))
        assert not outcome.failed
        assert outcome.attempts == 1
        await store.leases.finish(lease, old, outcome)
        after = await store.environments.get("alpha")
        assert FAILING_SINCE in after.checkpoints
        assert after.status is Status.CREATING

    run(body())


async def fresh(store: Store) -> tuple[Lease, EnvironmentRecord]:
    """Return a new environment under a lease."""
    await store.database.all("DELETE FROM environments")
    await store.environments.create(
        new_environment_id(), a_spec(), arn=an_arn(), tags={}, secrets={}, quota=1
    )
    taken = await store.leases.take_due("mine", TTL)
    assert taken is not None
    return taken
