"""Queued work after the store: export converters, mirrors, forwards that import converters could
not do, and work on whole patients and studies.

Records are committed with the image, so nothing is stored without its work. Each converter has a
lane and a thread: within it work is done in order, and a peer that is down holds up no other
converter. A record goes when its line has run to its end; what cannot be done ever becomes a dead
letter that `pyserver queue` lists. `claims` knows what was begun when the process was killed, so
that work is never done twice without saying which and why.
"""

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pyserver import _native
from pyserver.config.settings import Settings
from pyserver.policy.claims import DONE as DONE_NOTE
from pyserver.policy.claims import NOT_BEGUN, Claims, Left
from pyserver.policy.context import ERROR, INFO, WARNING, Services
from pyserver.policy.export_work import DONE, Result, Work, lane_name, lane_of
from pyserver.policy.failures import TAKEN, left_files, read_failures
from pyserver.policy.files import WORK_FOLDER
from pyserver.policy.jobs import DELAYED, Job
from pyserver.policy.lane import Lane
from pyserver.policy.repeats import Repeats

BATCH = 1000
# Reading the queue makes the index commit; this often is enough.
READ_PAUSE_S = 0.05
WAIT_S = 1.0
# Delayed work has no lane; for what is noted about it, it has.
DELAYED_LANE = -1
# LIMIT: records kept in memory, some 200 bytes each; others are read when their turn comes.
RECORDS_KEPT_MAX = 100_000
INTERRUPTED = "the association broke before the answer"


@dataclass
class _Pending:
    """Equal delayed work: done once, when nothing more has come for a while."""

    job: Job
    numbers: list[int] = field(default_factory=list)
    failures: int = 0
    due: float = 0.0


class Exports:
    """All lanes of a server."""

    def __init__(
        self,
        settings: Settings,
        services: Services,
        queue: _native.WorkQueue,
        wait: Callable[[int, float], int],
        repeats: Repeats,
    ) -> None:
        self._queue = queue
        self._wait = wait
        self._log = services.log
        self._changed = threading.Condition()
        self._reading = threading.Lock()
        self._lanes: dict[int, Lane] = {}
        self._threads: list[threading.Thread] = []
        self._done: list[int] = []
        self._records: dict[int, Job] = {}
        self._claims = Claims(settings.home)
        self._claiming = threading.Lock()
        self._repeats = repeats
        # Why a record may have been sent before.
        self._suspects: dict[int, str] = {}
        self._left: Left | None = None
        self._ended = False
        self._cursor = 0
        self._dead: dict[int, Job] = {}
        self._delayed: dict[str, _Pending] = {}
        # What is being done now, by number of the lane; delayed work by itself.
        self._busy_lanes: set[int] = set()
        self._performing: list[_Pending] = []
        self.reload(settings, services)

    def reload(self, settings: Settings, services: Services) -> None:
        """Take other converters and other patience."""
        with self._changed:
            self._settings, self._services = settings, services
            self._doing = Work(settings, services, lambda: self._ended)
            forward = settings.forward
            for lane in self._lanes.values():
                lane.hold_off, lane.retry_delay = forward.hold_off_s, forward.retry_delay_s
                lane.retries_max = forward.retries_max
                # What was wrong may be put right: it is tried again at once.
                lane.last_failure = None
            self._changed.notify_all()

    def start(self) -> None:
        """Take up what an earlier run left, then wait for more."""
        shutil.rmtree(self._settings.home / WORK_FOLDER, ignore_errors=True)
        self._take_over()
        self._take_up()
        for name, work in (("queue", self._dispatch), ("queue done", self._take_off)):
            self._spawn(name, work)

    def _take_up(self) -> None:
        """Sort what an earlier run left: what it had done already goes, what it had begun is done
        again, and that is told."""
        left = self._claims.start()
        if left.done:
            self._queue.edit(done=sorted(left.done))
            self._claims.taken_off(list(left.done))
            self._log(INFO, f"{len(left.done)} pieces of queued work had been done before the stop")
        # Records are judged as they are entered: a lane may begin at once.
        self._left = left
        count = self._read()
        self._left = None
        if count:
            twice = len(self._suspects)
            text = f"{count} pieces of queued work of the last run, {twice} may go out twice"
            self._log(INFO, text)

    def _take_over(self) -> None:
        """Queue what a Conquest server left in its retry files."""
        for path in left_files(self._settings.home):
            try:
                jobs = read_failures(path, int(time.time()))
                if jobs:
                    self._queue.edit(added=[job.encode() for job in jobs])
                path.rename(path.with_name(path.name + TAKEN))
                self._log(INFO, f"{path.name}: {len(jobs)} exports of Conquest taken over")
            except OSError as error:
                self._log(WARNING, f"{path}: {error.strerror}")

    def stop(self, patience_s: float) -> None:
        """Finish what is under way; the rest stays queued, and so does what takes longer."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            threads = list(self._threads)
        deadline = time.monotonic() + patience_s
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        with self._claiming:
            self._claims.close()

    def add(self, payload: bytes) -> None:
        """Queue a record by itself."""
        self._queue.edit(added=[payload])
        self._read()

    def wake(self) -> None:
        """Look for records that were queued with an object."""
        self._read()

    # What commands ask.

    def status(self) -> list[dict[str, Any]]:
        """A row for each lane, and the dead letters; what was queued by now is counted."""
        self._read()
        with self._changed:
            rows = [
                {
                    "lane": lane_name(number),
                    "waiting": len(lane) + (number in self._busy_lanes),
                    "held": len(lane.held),
                }
                for number, lane in sorted(self._lanes.items())
            ]
            delayed = [*self._delayed.values(), *self._performing]
            waiting = sum(len(pending.numbers) for pending in delayed)
            rows.append({"lane": "delayed", "waiting": waiting, "held": 0})
            return [*rows, {"lane": "dead", "waiting": len(self._dead), "held": 0}]

    def dead_letters(self) -> list[dict[str, Any]]:
        """Every record that was given up, and why."""
        with self._changed:
            letters = list(self._dead.items())
        return [
            {
                "number": number,
                "work": f"{job.kind} {job.converter} {job.text}".strip(),
                "sop_instance_uid": job.sop_instance,
                "reason": job.reason,
            }
            for number, job in letters
        ]

    def retry(self, numbers: list[int]) -> int:
        """Try dead letters again (all without numbers); how many."""
        chosen = self._chosen(numbers)
        if chosen:
            self._queue.edit(changed=[(n, job.alive().encode()) for n, job in chosen.items()])
        with self._changed:
            for number, job in chosen.items():
                self._dead.pop(number, None)
                self._enter(number, job.alive())
            self._changed.notify_all()
        return len(chosen)

    def drop(self, numbers: list[int]) -> int:
        """Forget dead letters (all without numbers); how many."""
        chosen = self._chosen(numbers)
        if chosen:
            self._queue.edit(done=list(chosen))
        with self._changed:
            for number in chosen:
                self._dead.pop(number, None)
        return len(chosen)

    def _chosen(self, numbers: list[int]) -> dict[int, Job]:
        with self._changed:
            wanted = numbers or list(self._dead)
            return {n: self._dead[n] for n in wanted if n in self._dead}

    # Threads.

    def _spawn(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _dispatch(self) -> None:
        seen = 0
        while not self._ended:
            seen = self._wait(seen, WAIT_S)
            try:
                self._read()
            except _native.NativeError as error:
                self._log(ERROR, f"the queue cannot be read: {error}")
            time.sleep(READ_PAUSE_S)

    def _read(self) -> int:
        """Sort new records into lanes; how many."""
        with self._reading:
            return self._read_all()

    def _read_all(self) -> int:
        count = 0
        while jobs := self._queue.jobs(self._cursor, BATCH):
            with self._changed:
                for number, payload in jobs:
                    self._cursor = number
                    job = Job.decode(payload)
                    if job is None:
                        continue
                    if job.is_dead:
                        self._dead[number] = job
                    else:
                        self._enter(number, job)
                        count += 1
                self._changed.notify_all()
            if len(jobs) < BATCH:
                break
        return count

    def _enter(self, number: int, job: Job) -> None:
        lane = DELAYED_LANE if job.kind == DELAYED else lane_of(job)
        why = self._left.suspicion(number, lane) if self._left is not None else None
        if why is not None:
            self._suspects[number] = why
        if job.kind != DELAYED:
            if len(self._records) < RECORDS_KEPT_MAX:
                self._records[number] = job
            if job.begun:
                self._suspects[number] = INTERRUPTED
            self._lane(job).add(number)
            return
        if not self._delayed and "export delayed 0" not in {t.name for t in self._threads}:
            for thread in range(self._settings.forward.delayed_threads):
                self._spawn(f"export delayed {thread}", self._work_delayed)
        delay = job.converter or self._settings.forward.collect_delay_s
        pending = self._delayed.setdefault(job.text, _Pending(job))
        pending.numbers.append(number)
        pending.due = time.monotonic() + delay

    def _lane(self, job: Job) -> Lane:
        """The lane of a record, with its thread."""
        number = lane_of(job)
        lane = self._lanes.get(number)
        if lane is None:
            forward = self._settings.forward
            lane = Lane(forward.hold_off_s, forward.retry_delay_s, forward.retries_max)
            self._lanes[number] = lane
            self._spawn(f"export {number}", lambda: self._work(number, lane))
        return lane

    def _work(self, name: int, lane: Lane) -> None:
        while True:
            with self._changed:
                if self._ended:
                    return
                now = time.monotonic()
                number = lane.next(now)
                self._busy_lanes.discard(name)
                if number is None:
                    patience = lane.patience(now)
                    self._changed.wait(WAIT_S if patience is None else min(patience, WAIT_S))
                    continue
                self._busy_lanes.add(name)
            try:
                self._finish(lane, number, *self._try(name, number))
            except Exception as error:  # a fault here must not end the lane
                self._log(ERROR, f"queued work {number}: {type(error).__name__}: {error}")
                with self._changed:
                    lane.failed(number, time.monotonic())

    def _try(self, lane: int, number: int) -> tuple[Job | None, Result]:
        job = self._record(number)
        if job is None or job.is_dead:
            return None, DONE
        with self._changed:
            why = self._suspects.pop(number, None)
        if why is not None:
            self._repeats.add(job.sop_instance, lane_name(lane), why)
        self._begin(lane, [number])
        try:
            result = self._doing.do(job)
        except _native.StoreError as error:
            result = Result("dead", str(error))
        self._settle(result, [number])
        return job, result

    def _record(self, number: int) -> Job | None:
        """A record by its number."""
        with self._changed:
            known = self._records.get(number)
        if known is not None:
            return known
        found = self._queue.jobs(number - 1, 1)
        return Job.decode(found[0][1]) if found and found[0][0] == number else None

    def _settle(self, result: Result, numbers: list[int]) -> None:
        """Note how records went, so that a kill right after this is no riddle."""
        if result.kind == "done":
            self._note(DONE_NOTE, numbers)
        elif not result.begun:
            self._note(NOT_BEGUN, numbers)
        else:
            with self._changed:
                for number in numbers:
                    self._suspects[number] = f"{INTERRUPTED}: {result.reason}"

    def _begin(self, lane: int, numbers: list[int]) -> None:
        with self._claiming:
            self._claims.begin(lane, numbers)

    def _note(self, kind: str, numbers: list[int]) -> None:
        with self._claiming:
            self._claims.note(kind, numbers)

    def _work_delayed(self) -> None:
        while True:
            with self._changed:
                if self._ended:
                    return
                now = time.monotonic()
                soonest = min(self._delayed.values(), key=lambda p: p.due, default=None)
                if soonest is None or soonest.due > now:
                    rest = WAIT_S if soonest is None else min(soonest.due - now, WAIT_S)
                    self._changed.wait(rest)
                    continue
                self._performing.append(self._delayed.pop(soonest.job.text))
                suspects = [self._suspects.pop(n, "") for n in soonest.numbers]
            why = next((text for text in suspects if text), "")
            if why:
                self._repeats.add(soonest.job.sop_instance, f"delayed {soonest.job.text}", why)
            self._begin(DELAYED_LANE, soonest.numbers)
            result = self._doing.perform(soonest.job)
            self._settle(result, soonest.numbers)
            self._finish_delayed(soonest, result)
            with self._changed:
                self._performing.remove(soonest)

    def _finish_delayed(self, pending: _Pending, result: Result) -> None:
        kind, reason = result.kind, result.reason
        with self._changed:
            if kind == "done":
                self._done += pending.numbers
                self._changed.notify_all()
                return
            pending.failures += 1
            most = self._settings.forward.delayed_retries_max
            if kind == "retry" and most and pending.failures > most:
                reason = f"tried too often: {reason}"
            elif kind == "retry":
                self._log(WARNING, f"queued, to be tried again: {reason}")
                again = self._delayed.setdefault(pending.job.text, pending)
                if again is not pending:
                    again.numbers = pending.numbers + again.numbers
                    again.failures = pending.failures
                again.due = time.monotonic() + self._settings.forward.retry_delay_s
                return
        *others, last = pending.numbers
        dead = pending.job.dead(reason)
        self._queue.edit(done=others, changed=[(last, dead.encode())])
        with self._changed:
            self._dead[last] = dead
        self._log(ERROR, f"given up, see `pyserver queue`: {reason}")

    def _finish(self, lane: Lane, number: int, job: Job | None, result: Result) -> None:
        kind, reason = result.kind, result.reason
        now = time.monotonic()
        if job is None:
            return
        with self._changed:
            if kind == "retry":
                if lane.failed(number, now):
                    self._log(WARNING, f"queued, to be tried again: {reason}")
                    return
                reason = f"tried too often: {reason}"
            elif kind == "defer":
                lane.deferred(number, now)
                return
            elif kind == "done":
                lane.succeeded()
                self._records.pop(number, None)
                self._done.append(number)
                self._changed.notify_all()
                return
        dead = job.dead(reason)
        self._queue.edit(changed=[(number, dead.encode())])
        with self._changed:
            self._records.pop(number, None)
            self._dead[number] = dead
        self._log(ERROR, f"given up, see `pyserver queue`: {job.sop_instance}: {reason}")

    def _take_off(self) -> None:
        """Take off what is done: many in one commit, the lanes do not wait for it."""
        while True:
            with self._changed:
                while not self._done and not self._ended:
                    self._changed.wait()
                done, self._done = self._done, []
                if not done and self._ended and not self._busy():
                    return
            if done:
                self._queue.edit(done=done)
                with self._claiming:
                    self._claims.taken_off(done)
            else:
                time.sleep(READ_PAUSE_S)

    def _busy(self) -> bool:
        mine = threading.current_thread()
        return any(t.is_alive() for t in self._threads if t is not mine and "queue" not in t.name)

    def repeated(self) -> list[dict[str, str]]:
        """What may have arrived twice, and why."""
        return self._repeats.rows()
