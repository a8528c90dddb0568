"""A user's own scorer: a ConfigMap whose files Python finds. Only trainers score."""

from __future__ import annotations

from typing import NamedTuple

from rljob_api.base import Manifest
from rljob_api.job import RLJob

from .. import names


class OwnReward(NamedTuple):
    """What it adds to a trainer."""

    env: tuple[Manifest, ...] = ()
    volumes: tuple[Manifest, ...] = ()
    mounts: tuple[Manifest, ...] = ()


def own_reward(job: RLJob) -> OwnReward:
    python = job.spec.reward.python
    if python is None or python.config_map_ref is None:
        return OwnReward()
    return OwnReward(
        env=({"name": "PYTHONPATH", "value": names.REWARD_PATH},),
        volumes=({"name": "reward", "configMap": {"name": python.config_map_ref.name}},),
        mounts=({"name": "reward", "mountPath": names.REWARD_PATH, "readOnly": True},),
    )
