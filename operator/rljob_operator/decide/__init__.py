"""`decide(job, observed, now)`: what to do next. Pure; one file per policy; the first with an opinion decides."""

from __future__ import annotations

from rljob_api.job import RLJob

from ..observed import Observed
from .deadlines import overdue, until_deadline
from .decision import Decision, Ended, GivenBack, Goal, PodStart, also
from .finish import completed, finished, with_last_pods
from .gang import gang
from .new_token import new_token
from .rollouts import rollouts
from .slow_start import until_slow
from .suspend import suspended
from .time_to_live import with_time_to_live
from .unheard import until_unheard

__all__ = ["Decision", "Ended", "GivenBack", "Goal", "PodStart", "decide"]


def decide(job: RLJob, observed: Observed, now: float) -> Decision:
    """What to do next. `job.status` is what the pass before wrote; `now` is in seconds since the epoch."""
    decision = (
        finished(job, observed)
        or completed(job, observed)
        or suspended(job, observed, now)
        or overdue(job, observed, now)
        or until_deadline(job, _running(job, observed, now))
    )
    return with_time_to_live(job, with_last_pods(job, decision, observed, now), now)


def _running(job: RLJob, observed: Observed, now: float) -> Decision:
    """Trainers as one gang, rollouts one by one; a failure of either may fail the job."""
    if stopping := new_token(job, observed, now):
        return stopping
    trainers = gang(job, observed, now)
    if trainers.goal in (Goal.FAIL, Goal.WAIT):
        return trainers
    servers = rollouts(job, observed, now, pinned=bool(trainers.start))
    if servers.goal is Goal.FAIL:
        return servers
    looks = (until_slow(observed, now), until_unheard(job, observed, now))
    return also(trainers, servers, *(Decision(Goal.RUN, "", wake_at=due) for due in looks))
