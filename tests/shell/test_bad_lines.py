"""A bad line between the operator and the real API server: jobs come to their end all the same, each by its schedule.

The jobs of a line share its operator and suffer at the same time, which costs a fraction of a line for each.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import pytest

from rljob_api.progress import Ending
from rljob_operator import names
from rljob_operator.cluster.resources import CHILD_KINDS, PODS
from waiting import until

from .kubelet import Kubelet
from .places import Place
from .proxy import Asked, Fate, Proxy

SCHEDULES = int(os.environ.get("RLJOB_PROXY_SCHEDULES", "50"))
A_LINE = 10
"""Schedules that share one."""
OF_ALL = [Fate.SLOW, Fate.DROPPED, Fate.TOO_MANY, Fate.FAILED, Fate.UNAVAILABLE]
OF_WRITES = [*OF_ALL, Fate.TWICE, Fate.LOST, Fate.CONFLICT]
OF_READS = [*OF_ALL, Fate.LOST]
OF_WATCHES = [*OF_ALL, Fate.EXPIRED]
TROUBLED = 0.25
"""Of all requests."""
CUT_SECONDS = (0.5, 4.0)
"""From one break of all watches to the next."""


@dataclass(frozen=True)
class Schedule:
    """What happens to one job."""

    place: Place
    kubelet: Kubelet
    seed: int

    def play(self) -> None:
        quick = {"backoffSeconds": {"initial": 0, "max": 0}}
        self.place.submit(self.name, trainer={"numNodes": 2}, failurePolicy=quick)
        self.run(attempt=1)
        what, restarts = HAPPENINGS[self.seed % len(HAPPENINGS)]
        what(self)
        last = 1 if what is server_fails else 2
        self.run(attempt=last)
        for trainer in self.trainers(last):
            self.kubelet.end(trainer)
        self.wait_for(lambda: self.place.status(self.name).get("phase") == "Complete", "Complete")
        assert self.place.status(self.name)["restarts"] == restarts

    @property
    def name(self) -> str:
        return f"job-{self.seed}"

    @property
    def server(self) -> str:
        return names.rollout_pod(self.name, 0, 0)

    def trainers(self, attempt: int) -> list[str]:
        return [names.trainer_pod(self.name, node, attempt) for node in (0, 1)]

    def run(self, attempt: int) -> None:
        """Let the trainers of an attempt run, once they and what they mount are there."""
        wanted = self.trainers(attempt)
        name = names.run_config_map(self.name, attempt)
        mounted = CHILD_KINDS["ConfigMap"].path(self.place.namespace, name)
        self.wait_for(lambda: set(wanted) <= set(self.place.pods()), f"{wanted} are there")
        self.wait_for(lambda: self.place.api.get(mounted).code == 200, f"{mounted} is there")
        self.kubelet.run(*wanted)

    def wait_for(self, happens: Callable[[], object], what: str) -> None:
        until(happens, lambda: f"seed {self.seed}: {what}; {self.place.told(self.name)}", pause_s=0.1)


def trainer_fails(job: Schedule) -> None:
    job.kubelet.end(job.trainers(1)[0], Ending.FAILED, 1)


def trainer_vanishes(job: Schedule) -> None:
    job.kubelet.remove(job.trainers(1)[1])


def trainer_is_told_to_go(job: Schedule) -> None:
    job.place.api.delete(PODS.path(job.place.namespace, job.trainers(1)[0]))


def server_fails(job: Schedule) -> None:
    job.wait_for(lambda: job.server in job.place.pods(), "its server is there")
    job.kubelet.run(job.server)
    job.kubelet.end(job.server, Ending.FAILED, 1)
    successor = names.rollout_pod(job.name, 0, 1)
    job.wait_for(lambda: successor in job.place.pods(), "its server is replaced")


def suspended_and_resumed(job: Schedule) -> None:
    job.place.edit({"suspend": True}, job.name)
    job.wait_for(lambda: job.place.status(job.name).get("phase") == "Suspended", "Suspended")
    job.place.edit({"suspend": False}, job.name)


HAPPENINGS = [
    (trainer_fails, 1),
    (trainer_vanishes, 1),
    (trainer_is_told_to_go, 1),
    (server_fails, 0),
    (suspended_and_resumed, 0),
]
"""And how many restarts of the gang each causes."""


@pytest.mark.parametrize("first", range(0, SCHEDULES, A_LINE))
def test_a_bad_line_to_the_real_api_server_delays_jobs_and_no_more(
    place: Place, kubelet: Kubelet, first: int
) -> None:
    """Requests are late, dropped, doubled, refused, or their answers lost; watches fail, break off, and tell things
    twice."""
    dice = random.Random(first)
    seeds = range(first, min(first + A_LINE, SCHEDULES))
    with (
        place.proxied() as proxy,
        again_and_again(kubelet, proxy, dice),
        ThreadPoolExecutor(A_LINE) as players,
    ):
        proxy.fate = partial(fate, dice)
        proxy.repeats = lambda: dice.random() < TROUBLED
        place.operator(proxy=proxy)
        for played in [players.submit(Schedule(place, kubelet, seed).play) for seed in seeds]:
            played.result()


def fate(dice: random.Random, asked: Asked) -> Fate:
    """Of a request about jobs and what belongs to them."""
    troubles = OF_WRITES if asked.is_write else OF_READS if asked.is_read else []
    troubles = OF_WATCHES if asked.is_watch else troubles
    return dice.choice(troubles) if troubles and dice.random() < TROUBLED else Fate.ANSWERED


@pytest.mark.parametrize(
    ("fate", "code", "is_done"),
    [
        (Fate.DROPPED, 0, False),
        (Fate.UNAVAILABLE, 503, False),
        (Fate.LOST, 0, True),
        (Fate.TWICE, 409, True),
        (Fate.ANSWERED, 201, True),
    ],
    ids=lambda one: one.value if isinstance(one, Fate) else "",
)
def test_what_a_bad_line_does_to_a_request(place: Place, fate: Fate, code: int, is_done: bool) -> None:
    """What is asked of the API server, and what is heard of it: nothing is 0."""
    config_maps = CHILD_KINDS["ConfigMap"].path(place.namespace)
    with place.proxied() as proxy:
        proxy.fate = lambda _: fate
        behind = replace(place.api, url=proxy.url, tls=None)
        try:
            heard = behind.post(config_maps, {"metadata": {"name": "one"}}).code
        except OSError:  # the connection broke
            heard = 0
    assert heard == code
    assert (place.api.get(f"{config_maps}/one").code == 200) is is_done


@contextmanager
def again_and_again(kubelet: Kubelet, proxy: Proxy, dice: random.Random) -> Iterator[None]:
    """Pods that are asked to go do, and all watches break off, for as long as the block lasts."""
    over = threading.Event()

    def reap() -> None:
        while not over.wait(0.1):
            kubelet.reap()

    def cut() -> None:
        while not over.wait(dice.uniform(*CUT_SECONDS)):
            proxy.cut_watches()

    with ThreadPoolExecutor(2) as at_work:
        both = [at_work.submit(reap), at_work.submit(cut)]
        try:
            yield
        finally:
            over.set()
            for one in both:
                one.result()
