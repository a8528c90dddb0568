"""Names, labels, ports and paths: each spelled once. Everything that renders, observes or finds an object asks here."""

from __future__ import annotations

from collections.abc import Mapping

from rljob_api.base import GROUP
from rljob_api.failure import RoleName

LABEL_NAME = f"{GROUP}/name"
LABEL_ROLE = f"{GROUP}/role"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_INDEX = f"{GROUP}/index"

CONTROL_TOKEN_ENV = "RLJOB_CONTROL_TOKEN"
CONTROL_TOKEN_KEY = "token"

# Below the ephemeral range, and not among the ports that development servers like.
MASTER_PORT = 29400
PROGRESS_PORT = 29401
ROLLOUT_PORT = 29402

RUN_PATH = "/etc/rljob"
CLAIM_PATH = "/var/lib/rljob"
INITIAL_CLAIM_PATH = "/initial"
CACHE_PATH = f"{CLAIM_PATH}/cache"
SHM_PATH = "/dev/shm"
TMP_PATH = "/tmp"
TERMINATION_LOG = "/dev/termination-log"

WRITABLE_PLACES = {
    "HOME": TMP_PATH,
    "HF_HOME": f"{CACHE_PATH}/huggingface",
    "VLLM_CACHE_ROOT": f"{CACHE_PATH}/vllm",
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_PATH}/torchinductor",
    "TRITON_CACHE_DIR": f"{CACHE_PATH}/triton",
}
"""Environment of a container that can write nowhere else; downloads and compiled code outlive the pod on the claim."""

CONVERT = "convert"
"""The init container of trainers on the megatron backend."""
CONVERSIONS_ENV = "NRL_MEGATRON_CHECKPOINT_DIR"
"""NeMo RL's name for where converted models are kept."""
CONVERSIONS_PATH = f"{CACHE_PATH}/megatron"

REWARD_PATH = "/etc/rljob-reward"
"""Where Python finds a reward that comes in a ConfigMap."""

AUTHORITY_PATH = "/etc/rljob-ca"
AUTHORITY_VOLUME = "rljob-ca"
"""Where containers find the certificates of `jobDefaults.caConfigMap`."""

PROGRESS_URL_PATH = "/progress"
HEALTH_URL_PATH = "/health"


def job_path(job: str) -> str:
    """The job's directory on the claim: several jobs may share one."""
    return f"{CLAIM_PATH}/jobs/{job}"


def initial_path(job: str) -> str:
    """The directory of the job that another one begins with, if it is on a claim of its own."""
    return f"{INITIAL_CLAIM_PATH}/jobs/{job}"


def service(job: str) -> str:
    """The headless service that gives every pod of the job a DNS name."""
    return job


def hostname(job: str, role: RoleName, index: int) -> str:
    """Stable over attempts and replacements."""
    return f"{job}-{role}-{index}"


def host(job: str, role: RoleName, index: int) -> str:
    """What other pods of the job's namespace call a pod."""
    return f"{hostname(job, role, index)}.{service(job)}"


def rollout_host_pattern(job: str) -> str:
    """The host of a rollout pod, with `{index}` for its index."""
    return f"{job}-{RoleName.ROLLOUT}-{{index}}.{service(job)}"


def trainer_pod(job: str, node: int, attempt: int) -> str:
    return f"{hostname(job, RoleName.TRAINER, node)}-{attempt}"


def rollout_pod(job: str, index: int, serial: int) -> str:
    """`serial` rises with each replacement of the same replica."""
    return f"{hostname(job, RoleName.ROLLOUT, index)}-{serial}"


def run_config_map(job: str, attempt: int) -> str:
    return f"{job}-run-{attempt}"


def attempt_of(job: str, config_map: str) -> int | None:
    """The attempt whose run the ConfigMap is; None for one of another name, which somebody else made."""
    number = config_map.rpartition("-")[2]
    known = number.isdecimal() and run_config_map(job, int(number)) == config_map
    return int(number) if known else None


def control_secret(job: str, uid: str) -> str:
    """Its one key guards vLLM's control routes. A namesake's, which may be on its way out, has another name."""
    return f"{job}-control-{uid[:8]}"


def claim(job: str, named: str | None = None) -> str:
    """The claim that a job names, else the one that is made for it."""
    return named or f"{job}-storage"


def network_policy(job: str, role: RoleName) -> str:
    return f"{job}-{role}"


def disruption_budget(job: str) -> str:
    return f"{job}-{RoleName.ROLLOUT}"


def job_labels(job: str) -> dict[str, str]:
    """What selects everything of a job."""
    return {LABEL_NAME: job}


def selector(labels: Mapping[str, str]) -> str:
    """As the API server takes it."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def role_labels(job: str, role: RoleName) -> dict[str, str]:
    """What selects the pods of a role."""
    return {LABEL_NAME: job, LABEL_ROLE: role.value}


def object_labels(job: str) -> dict[str, str]:
    """Every label of an object of a job, the ones that tools of all kinds look for included."""
    recommended = {"name": "rljob", "instance": job, "managed-by": "rljob-operator"}
    return job_labels(job) | {f"app.kubernetes.io/{key}": value for key, value in recommended.items()}


def pod_labels(job: str, role: RoleName, index: int, attempt: int) -> dict[str, str]:
    own = {LABEL_ROLE: role.value, LABEL_INDEX: str(index), LABEL_ATTEMPT: str(attempt)}
    return object_labels(job) | own | {"app.kubernetes.io/component": role.value}
