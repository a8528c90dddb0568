"""Every `reason` of conditions, attempts and Events: one CamelCase word for programs, and what it means to people.

`docs/reference.md` lists them from here.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why something is as it is."""

    VALID = "Valid"
    """The spec is accepted."""
    INVALID = "Invalid"
    """The spec is refused: change what the message names."""

    FIRST_ATTEMPT = "FirstAttempt"
    """The job starts."""
    RESUMED = "Resumed"
    """The job goes on after a suspension."""
    OLD_PODS_STOPPING = "OldPodsStopping"
    """Pods of an earlier attempt save and stop before the new one starts."""
    GANG_STOPPING = "GangStopping"
    """A trainer pod ended or is gone; the others save and stop, then all start again."""
    BACK_OFF = "BackOff"
    """The pause before a restart, see `failurePolicy.backoffSeconds`."""
    PODS_GONE = "PodsGone"
    """Trainer pods were gone: deleted, or killed together with `rljob run`; the gang starts again."""
    PREEMPTED = "Preempted"
    """The cluster ended a trainer pod, or it was told to go: it is not counted as a failure."""
    POD_FAILED = "PodFailed"
    """A trainer pod failed; the gang restarts, counted towards `failurePolicy.maxRestarts`. In an Event any pod: the
    note says which, and what it said last."""
    POD_FAILED_IGNORED = "PodFailedIgnored"
    """The same, but a rule of `failurePolicy` exempts it from the count."""
    VOLUME_UNUSABLE = "VolumeUnusable"
    """The volume is full or answers errors, so an attempt could not begin, or not save when it left. It is tried again
    after the pause of `failurePolicy.backoffSeconds`, without being counted, until there is room or a deadline of the
    job has passed. The message says what to free or mend."""
    STALLED = "Stalled"
    """No trainer rank showed a sign of life for longer than `stall` allows; the gang restarts, counted towards
    `failurePolicy.maxRestarts`. The message names the phase and the late rank; stacks are on the volume."""
    NODE_LOST = "NodeLost"
    """A node is silent, so it cannot be known whether its pod still runs: nothing takes its place until the node is
    back, is deleted, or carries the taint `node.kubernetes.io/out-of-service`."""

    CONTROL_SECRET_GONE = "ControlSecretGone"
    """The Secret with the job's token was deleted while pods ran that have it, and a pod was to start: all pods stop,
    after saving, and start with a new token."""

    QUOTA_EXCEEDED = "QuotaExceeded"
    """A ResourceQuota of the namespace leaves no room: the gang gives its pods back and tries again later. Free some
    quota, or ask for less."""
    UNSCHEDULABLE = "Unschedulable"
    """No node has room or fits: pods wait; a gang that holds nodes in vain gives them back and tries again later."""
    EXACTNESS_UNMET = "ExactnessUnmet"
    """A resume cannot be as exact as `resume.exactness` asks, or not load what `checkpoint.loadRng` or
    `resume.loadOptimizer` ask for: the gang gave its pods back and waits. Undo what the message names, or ask for less;
    then the job goes on by itself after an edit, or after a suspend and a resume."""
    EXACTNESS_UNREACHABLE = "ExactnessUnreachable"
    """`resume.exactness` is `Exact`, which no restart of such a job can be. Nothing is lost yet: ask for less before
    the first restart, which would wait."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """An image cannot be pulled: check its name, and `template.spec.imagePullSecrets` for a private registry."""
    SECRET_MISSING = "SecretMissing"
    """A Secret that the job refers to, or a key in it, does not exist: create it, and the pod starts by itself."""
    CONFIG_MAP_MISSING = "ConfigMapMissing"
    """A ConfigMap that the job refers to, or a key in it, does not exist: create it, and the pod starts by itself."""
    VOLUME_NOT_MOUNTED = "VolumeNotMounted"
    """A volume cannot be attached or mounted, the message says why."""
    CONTAINER_CANNOT_START = "ContainerCannotStart"
    """A container cannot be made, the message says why."""
    CLAIM_NOT_READY = "ClaimNotReady"
    """The claim is missing or has no volume: create it, or the storage class that it asks for. Another class takes
    another claim: delete the job and its claim, and create the job with it."""
    PRIORITY_CLASS_MISSING = "PriorityClassMissing"
    """The priority class does not exist: create it, or choose another in `template.spec.priorityClassName`."""
    RUNTIME_CLASS_MISSING = "RuntimeClassMissing"
    """The runtime class does not exist: create it, or choose another in `template.spec.runtimeClassName`."""
    SERVICE_ACCOUNT_MISSING = "ServiceAccountMissing"
    """The service account does not exist: create it, or choose another in `template.spec.serviceAccountName`."""
    POD_SECURITY = "PodSecurity"
    """The namespace's pod security standard forbids the pods."""
    NAME_TAKEN = "NameTaken"
    """An object of that name belongs to somebody else: delete it, or rename the job."""
    REFUSED = "Refused"
    """The API server refuses an object of the job, the message says why."""
    OPERATOR_ERROR = "OperatorError"
    """The operator itself fails at the job, and tries again: a mistake in it, to be reported. The message has the
    error, the operator's log its traceback. What runs goes on, but nothing is started, restarted or stopped."""
    SLOW_START = "SlowStart"
    """A pod has a node and does not run after half a minute, and no Event says why: a large image takes minutes."""
    POD_WAITS = "PodWaits"
    """A pod waits for what the message says."""

    MISTAKE = "Mistake"
    """The job itself is wrong (bad data, bad reward, no such model): a restart would not help."""
    FAIL_JOB_RULE = "FailJobRule"
    """A rule of `failurePolicy` fails the job."""
    MAX_RESTARTS_EXCEEDED = "MaxRestartsExceeded"
    """More failures than `failurePolicy.maxRestarts`."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """The job took longer than `activeDeadlineSeconds`."""
    PRE_RUNNING_DEADLINE_EXCEEDED = "PreRunningDeadlineExceeded"
    """Training did not run within `preRunningDeadlineSeconds`."""
    ALL_STEPS_RAN = "AllStepsRan"
    """Every rank finished all steps."""

    SUSPENDING = "Suspending"
    """`suspend` is true: pods save and stop."""
    SUSPENDED = "Suspended"
    """`suspend` is true, and nothing runs."""
    RUN_AGAIN = "RunAgain"
    """`rljob run` was started again on a job that was over."""

    ALL_READY = "AllReady"
    """All pods are ready."""
    SOME_NOT_READY = "SomeNotReady"
    """Some pods are not ready yet."""
    NONE_YET = "NoneYet"
    """No checkpoint was saved yet."""
    WHOLE = "Whole"
    """The newest checkpoint was written, synced and sealed, and nothing was found wrong with it since.
    `checkpoint.latest.verified` says whether it was read back, which is done in the background."""
    GRACE_PERIOD_TOO_SHORT = "GracePeriodTooShort"
    """The newest checkpoint is whole, but saves take longer than `checkpoint.onPreemption.gracePeriodSeconds` leaves:
    who is told to go would be killed before the last step is saved. The message says how many seconds it takes."""
    CHECKPOINT_PASSED_OVER = "CheckpointPassedOver"
    """This attempt found a checkpoint damaged, or could not read it back, and goes on without it. The message names it,
    and where it is now."""
    SAVE_FAILED = "SaveFailed"
    """The volume refused the last save. Training goes on, and saving is tried again; until it succeeds, steps since the
    last checkpoint are at risk. The message says what was wrong."""
    NOT_RESUMED = "NotResumed"
    """The attempt did not go on from a checkpoint, or has not told yet."""
    EXACT = "Exact"
    """It went on as if never interrupted, bit for bit."""
    LOSSLESS = "Lossless"
    """It lost no finished step and kept the order, but not bit for bit."""
    BEST_EFFORT = "BestEffort"
    """Something was lost, the message says what."""
    NOT_REACHED = "NotReached"
    """This has not happened."""

    ATTEMPT_STARTED = "AttemptStarted"
    """Of an Event alone: a gang starts, the note says why."""
    ROLLOUT_REPLACED = "RolloutReplaced"
    """Of an Event alone: a rollout server takes another's place, trainers keep their state."""


IN_THE_RUNBOOK = (
    Reason.INVALID,
    Reason.STALLED,
    Reason.VOLUME_UNUSABLE,
    Reason.NODE_LOST,
    Reason.CONTROL_SECRET_GONE,
    Reason.QUOTA_EXCEEDED,
    Reason.UNSCHEDULABLE,
    Reason.IMAGE_PULL_FAILED,
    Reason.SECRET_MISSING,
    Reason.CONFIG_MAP_MISSING,
    Reason.VOLUME_NOT_MOUNTED,
    Reason.CONTAINER_CANNOT_START,
    Reason.CLAIM_NOT_READY,
    Reason.PRIORITY_CLASS_MISSING,
    Reason.RUNTIME_CLASS_MISSING,
    Reason.SERVICE_ACCOUNT_MISSING,
    Reason.POD_SECURITY,
    Reason.NAME_TAKEN,
    Reason.REFUSED,
    Reason.OPERATOR_ERROR,
    Reason.SLOW_START,
    Reason.EXACTNESS_UNMET,
    Reason.EXACTNESS_UNREACHABLE,
    Reason.POD_WAITS,
    Reason.GANG_STOPPING,
    Reason.BACK_OFF,
    Reason.POD_FAILED,
    Reason.POD_FAILED_IGNORED,
    Reason.PODS_GONE,
    Reason.PREEMPTED,
    Reason.ROLLOUT_REPLACED,
    Reason.MISTAKE,
    Reason.FAIL_JOB_RULE,
    Reason.MAX_RESTARTS_EXCEEDED,
    Reason.DEADLINE_EXCEEDED,
    Reason.PRE_RUNNING_DEADLINE_EXCEEDED,
    Reason.GRACE_PERIOD_TOO_SHORT,
    Reason.CHECKPOINT_PASSED_OVER,
    Reason.SAVE_FAILED,
    Reason.BEST_EFFORT,
)
"""Those that ask something of a person: each has a section in `docs/runbook-cluster.md`."""

ASKS_NOTHING = (
    Reason.VALID,
    Reason.FIRST_ATTEMPT,
    Reason.RESUMED,
    Reason.OLD_PODS_STOPPING,
    Reason.ALL_STEPS_RAN,
    Reason.SUSPENDING,
    Reason.SUSPENDED,
    Reason.RUN_AGAIN,
    Reason.ALL_READY,
    Reason.SOME_NOT_READY,
    Reason.NONE_YET,
    Reason.WHOLE,
    Reason.NOT_RESUMED,
    Reason.EXACT,
    Reason.LOSSLESS,
    Reason.NOT_REACHED,
    Reason.ATTEMPT_STARTED,
)
"""All others: what they mean is all there is to say of them."""
