"""Starts attempts as pods of a cluster, and finds them again after the service has restarted.

What its account must be allowed in the namespace, and no more, is in `resources.PERMISSIONS`: create, delete, get, list
and watch jobs.batch and rayjobs.ray.io; list and watch pods; list events; create secrets; get the one Role that owns
jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from anneal.kit import logs
from anneal.kit.jobs.demand import Demand
from anneal.kit.jobs.failures import NotAccepted
from anneal.kit.jobs.kubernetes import narrowing
from anneal.kit.jobs.kubernetes.client import ApiError, Cluster, Denied, Refused, Taken
from anneal.kit.jobs.kubernetes.deletions import Deletions
from anneal.kit.jobs.kubernetes.ends import broken_pod, has_ended
from anneal.kit.jobs.kubernetes.events import Events, explained, subjects
from anneal.kit.jobs.kubernetes.form import Form
from anneal.kit.jobs.kubernetes.job import JobForm
from anneal.kit.jobs.kubernetes.names import (
    CLAIM,
    OWNER,
    annotations_of,
    key_of,
    metadata,
    object_name,
    operation_id,
    owned_by,
)
from anneal.kit.jobs.kubernetes.rayjob import RayJobForm
from anneal.kit.jobs.kubernetes.resources import PODS, ROLES, SECRETS
from anneal.kit.jobs.kubernetes.secret import build_secret
from anneal.kit.jobs.kubernetes.submissions import Submissions, TryLater, pending_of
from anneal.kit.jobs.kubernetes.watch import Key, Mirror, Worker
from anneal.kit.jobs.launcher import Attempt, Ended, LaunchFailed
from anneal.kit.jobs.pending import Pending, PendingReason
from anneal.kit.options import LauncherOptions

GONE_S = 15.0
"""An attempt whose object is not seen for so long has lost it."""
SETTLE_S = 2.0
"""A job's end may be seen before that of its pod, which says how it came; so long its pod is waited for."""
LINGER_S = 30.0
"""An object whose job has ended may take so long to end, too; then it is deleted."""
SWEEP_EVERY_S = 1.0
FIRST_LIST_S = 10.0


class KubernetesLauncher:
    """A Job for each attempt and, where KubeRay is, a RayJob for those that train.

    The cluster is the memory: labels say which attempt an object belongs to, so that a server that starts anew lists
    them and goes on. What an attempt is told, its claim among it, is in a secret that its object owns; an attempt that
    was given up may go on in its pod for a while, but its token opens nothing any more.
    """

    outlives_server = True
    binds_to_thread = False

    def __init__(
        self,
        options: LauncherOptions,
        *,
        data_dir: Path,
        cluster: Cluster | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it; nothing is sent before `start`.

        Args:
            options: where and how pods run.
            data_dir: the server's data folder; pods have scratch and cache under the same paths.
            cluster: the namespace; None takes what the options say.
            clock: seconds that only grow.

        Raises:
            Misconfigured: the options do not say how to reach the cluster.
        """
        self.away_s = float(options.away_s)
        self.pending_s: float | None = float(options.pending_s)
        self._options = options
        self._cluster = cluster or Cluster(options.kubeconfig, options.namespace)
        self._clock = clock
        selector = f"{OWNER}={options.owner}"
        forms: list[Form] = [JobForm(options, data_dir)]
        if options.ray.enabled:
            forms.append(RayJobForm(options, data_dir))
        self._forms = [(form, Mirror(self._cluster, form.resource, selector)) for form in forms]
        self._pods = Mirror(self._cluster, PODS, selector)
        self._deletions = Deletions(self._cluster, {form.resource: mirror for form, mirror in self._forms}, clock)
        self._submissions = Submissions(self._submit, clock)
        self._events = Events(self._cluster, clock)
        self._workers = [
            Worker("kubernetes-sweeper", self._deletions.sweep, SWEEP_EVERY_S),
            Worker("kubernetes-submissions", self._submissions.sweep, SWEEP_EVERY_S),
            Worker("kubernetes-events", self._events.sweep, SWEEP_EVERY_S),
        ]
        self._since: dict[tuple[str, Key], float] = {}
        self._ran: set[Key] = set()
        self._log = logs.logger("kubernetes")

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch; waits a little for the first lists, so that what runs already is known."""
        for mirror in self._mirrors():
            mirror.start()
        for worker in self._workers:
            worker.start()
        deadline = self._clock() + FIRST_LIST_S
        for mirror in self._mirrors():
            mirror.wait_tried(max(0.0, deadline - self._clock()))

    def stop(self) -> None:
        """Stop watching; the pods go on."""
        for worker in self._workers:
            worker.stop()
        for mirror in self._mirrors():
            mirror.stop()

    def _mirrors(self) -> list[Mirror]:
        return [*(mirror for _, mirror in self._forms), self._pods]

    # -- starting ------------------------------------------------------------------------------------------------

    def check(self, demand: Demand) -> None:
        """Check that an order asks for no more than the settings allow.

        Raises:
            DemandTooWide: it does.
        """
        narrowing.check(self._options, demand)

    def blocked(self) -> Pending | None:
        """That the cluster's API does not answer; None while it does."""
        if self._is_synced() and self._forms[0][1].answers:
            return None
        errors = (mirror.error for mirror in (self._forms[0][1], self._pods))
        return Pending(PendingReason.API, next((error for error in errors if error), "it has not answered yet"))

    def _is_synced(self) -> bool:
        """Whether all that runs is known. KubeRay may be missing: that is for those to hear who train."""
        return self._forms[0][1].is_synced and self._pods.is_synced

    def launch(self, attempt: Attempt) -> None:
        """Create the object of an attempt and its secret; those of the attempts before are deleted.

        What the cluster does not take for now, because a quota is used up or a webhook does not answer, is `pending`
        and created later.

        Raises:
            LaunchFailed: the cluster refuses them.
        """
        self.kill(attempt.operation)
        self._deletions.sweep()
        try:
            self._submit(attempt)
        except TryLater as later:
            self._submissions.add(attempt, later.pending)

    def _submit(self, attempt: Attempt) -> None:
        """Create the object of an attempt and its secret, or what is missing of them from an earlier try.

        Raises:
            LaunchFailed: the cluster refuses them.
            TryLater: it does not take them for now.
        """
        form, mirror = self._forms[-1 if attempt.demand.ray_workers else 0]  # without KubeRay, both are Jobs
        try:
            made = self._create(form, attempt)
            mirror.add(made)
            self._tell(attempt, made)
        except narrowing.DemandTooWide as refusal:  # the settings are narrower by now than when it was accepted
            raise LaunchFailed(str(refusal), charged=True, refusal=refusal) from refusal
        except ApiError as error:
            pending = pending_of(error)
            if pending is not None:
                raise TryLater(pending) from error
            # Half of it may be there.
            self._deletions.add(form.resource, object_name(attempt.operation, attempt.attempt))
            text = f"the cluster did not take it: {error}"
            denied = NotAccepted(f"the cluster refuses the job: {error.words}") if isinstance(error, Denied) else None
            raise LaunchFailed(text, charged=True, refusal=denied, failure=NotAccepted) from error

    def _create(self, form: Form, attempt: Attempt) -> dict[str, Any]:
        """Create the object; one that an unanswered try has created is recognised by its claim."""
        thing = form.build(attempt)
        if self._options.role:
            # Read each time: one that was made anew has another uid, and what the old one owned is collected.
            thing["metadata"] |= owned_by(self._cluster.get(ROLES, self._options.role))
        try:
            return self._cluster.create(form.resource, thing)
        except Taken:
            found = self._cluster.get(form.resource, thing["metadata"]["name"])
            if metadata(found, "annotations").get(CLAIM) != annotations_of(attempt)[CLAIM]:
                raise Refused(f"{thing['metadata']['name']} exists and is not this attempt's") from None
            return found

    def _tell(self, attempt: Attempt, made: Mapping[str, Any]) -> None:
        try:
            self._cluster.create(SECRETS, build_secret(attempt, made, metadata(made, "labels")))
        except Taken:
            self._log.info("its secret exists from an unanswered try", name=made["metadata"]["name"])

    # -- looking after -------------------------------------------------------------------------------------------

    def ended(self, operation: str, attempt: int) -> Ended | None:
        """How an attempt ended, once it has."""
        found = self._state(operation, attempt)
        return found if isinstance(found, Ended) else None

    def pending(self, operation: str, attempt: int) -> Pending | None:
        """What an attempt waits for before it runs."""
        if not self._is_synced():
            return self.blocked()
        found = self._state(operation, attempt)
        return found if isinstance(found, Pending) else None

    def silent(self, operation: str, attempt: int) -> Ended | None:
        """What the cluster knows to keep an attempt from being heard."""
        if not self._is_synced():
            return Ended(text="nothing was heard of it, and the cluster's API does not answer", charged=False)
        key = (operation_id(operation), attempt)
        form, thing = self._find(key)
        return None if form is None or thing is None else form.silent(self._pods.of(key))

    def broken(self, operation: str, attempt: int) -> Ended | None:
        """What the cluster did to a pod of an attempt, such as one of Ray's workers, that its process fell over."""
        key = (operation_id(operation), attempt)
        return broken_pod([*self._pods.of(key), *self._pods.gone(key)])

    def inherit(self, operation: str, attempt: int) -> None:
        """Nothing ends with a server: what the labels say is read as for every other attempt."""

    def _find(self, key: Key) -> tuple[Form | None, dict[str, Any] | None]:
        for form, mirror in self._forms:
            for thing in mirror.of(key):
                return form, thing
        return None, None

    def _state(self, operation: str, attempt: int) -> Ended | Pending | None:
        key = (operation_id(operation), attempt)
        if not self._is_synced():
            return None
        held = self._submissions.state(key)
        if held is not None:
            return held
        form, thing = self._find(key)
        if form is None or thing is None:
            if self._lasts("gone", key) < GONE_S:
                return Pending(PendingReason.POD, "its Kubernetes job is not listed")
            cause = "something else deleted it, or the service was restarted before the cluster took it"
            return Ended(text=f"its Kubernetes job does not exist: {cause}", charged=False)
        self._since.pop(("gone", key), None)
        pods, gone = self._pods.of(key), self._pods.gone(key)
        found = form.read(thing, pods, gone)
        if found is None:
            self._ran.add(key)
        if isinstance(found, Pending):
            return self._before_it_ran(key, explained(found, self._events.about(subjects(thing, pods))))
        if found is not None and not any(map(has_ended, [*pods, *gone])) and self._lasts("over", key) < SETTLE_S:
            return None
        return found

    def _before_it_ran(self, key: Key, pending: Pending) -> Ended | Pending | None:
        """A wait; its end where it begins again: the claim is good for one process only."""
        if key not in self._ran:
            return pending
        if pending.reason is PendingReason.QUEUE:
            return Ended(text="its queue took its place back", charged=False)
        return None  # its pod is going, and how is not known yet

    def _lasts(self, what: str, key: Key) -> float:
        """Seconds since something was first seen."""
        now = self._clock()
        return now - self._since.setdefault((what, key), now)

    # -- ending --------------------------------------------------------------------------------------------------

    def kill(self, operation: str) -> None:
        """Have deleted what runs of an operation: the cluster tells its processes to stop, and ends them later."""
        self._submissions.drop(operation)
        self._delete(operation, also_over=False)

    def discard(self, operation: str) -> None:
        """Have deleted everything of an operation, also what has ended."""
        self._submissions.drop(operation)
        self._delete(operation, also_over=True)

    def _delete(self, operation: str, *, also_over: bool) -> None:
        for form, mirror in self._forms:
            for thing in mirror.all():
                key = key_of(thing)
                if key is not None and key[0] == operation_id(operation) and (also_over or not form.is_over(thing)):
                    self._deletions.add(form.resource, thing["metadata"]["name"])

    def reap(self, active: Collection[str]) -> None:
        """Have deleted what is left of jobs that ended, and of attempts that were followed by another one."""
        living = {operation_id(name) for name in active}
        newest: dict[str, int] = {}
        seen: set[Key] = set()
        things = [
            (form, thing, key) for form, mirror in self._forms for thing in mirror.all() if (key := key_of(thing))
        ]
        for _, _, (operation, attempt) in things:
            newest[operation] = max(attempt, newest.get(operation, 0))
        for form, thing, key in things:
            seen.add(key)
            if key[0] in living and key[1] == newest[key[0]]:
                continue
            is_over = form.is_over(thing)
            # What has ended, its `ttlSecondsAfterFinished` removes; KubeRay removes no RayJob.
            if self._lasts("kept" if is_over else "left", key) >= (self._options.ttl_s if is_over else LINGER_S):
                self._deletions.add(form.resource, thing["metadata"]["name"])
        self._forget(living, seen)

    def _forget(self, living: set[str], seen: set[Key]) -> None:
        self._submissions.keep(living)
        for mirror in self._mirrors():
            mirror.forget(living)
        self._ran = {key for key in self._ran if key[0] in living}
        self._since = {
            (what, key): since for (what, key), since in self._since.items() if key[0] in living or key in seen
        }
