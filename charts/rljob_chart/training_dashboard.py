"""The dashboard of one job: what rank 0 and the vLLM servers tell."""

from __future__ import annotations

from .grafana import Dashboard, Panel, Row

JOB = 'namespace="$namespace",rljob="$rljob"'


def _learned(name: str) -> str:
    """A metric of training, of the newest attempt that tells it."""
    return f'max(rljob_metric{{{JOB},name="{name}"}})'


def _of_job(metric: str) -> str:
    return f"max({metric}{{{JOB}}})"


def _vllm(name: str) -> str:
    """Prometheus 2 is given names of vLLM with `_` where Prometheus 3 is given `:`."""
    return f'{{__name__=~"vllm[:_]{name}",{JOB}}}'


NOW = Row(
    "Now",
    (
        Panel("Step", {"step": _of_job("rljob_step")}, "Finished steps.", kind="stat"),
        Panel("Steps in all", {"steps": _of_job("rljob_steps_total")}, "Of the whole job.", kind="stat"),
        Panel("Time left", {"left": _of_job("rljob_remaining_seconds")}, "From the last steps.", "s", "stat"),
        Panel("Attempt", {"attempt": _of_job("rljob_attempt")}, "1 without a restart.", kind="stat"),
        Panel(
            "Last sign of life",
            {"ago": _of_job("rljob_heartbeat_age_seconds")},
            "Of the phase under way. Long: it hangs.",
            "s",
            "stat",
        ),
        Panel(
            "Newest checkpoint",
            {"ago": _of_job("rljob_checkpoint_age_seconds")},
            "What a crash now would cost, at most.",
            "s",
            "stat",
        ),
    ),
)

LEARNING = Row(
    "Learning",
    (
        Panel(
            "Reward",
            {"reward": _learned("reward"), "held-out": _learned("accuracy")},
            "Mean reward of a step's samples, and of the validation prompts. They should rise together.",
        ),
        Panel(
            "Mismatch of trainer and vLLM",
            {"error": _learned("token_mult_prob_error")},
            "1 is agreement. Above 1.05: see the runbook.",
        ),
        Panel(
            "Policy",
            {"entropy": _learned("entropy"), "KL": _learned("kl"), "clipped": _learned("clip_fraction")},
            "Entropy at 0: no exploration is left. KL is there with klPenalty above 0.",
        ),
        Panel(
            "Completions",
            {"tokens": _learned("completion_tokens")},
            "Mean length. Watch that it neither runs away nor collapses.",
        ),
    ),
)

TIME = Row(
    "Where the time goes",
    (
        Panel(
            "Phases",
            {"{{phase}}": f"sum by (phase) (rate(rljob_phase_seconds_total{{{JOB}}}[$__rate_interval]))"},
            "Share of each phase. Much `Generate`: more rollout replicas would help; much `Train`: more trainers.",
            "percentunit",
        ),
        Panel(
            "Speed",
            {"tokens/s": _learned("tokens_per_second"), "s/step": _learned("step_seconds")},
            "Of the last step.",
        ),
        Panel(
            "Steps and restarts",
            {"step": _of_job("rljob_step"), "checkpoint": _of_job("rljob_checkpoint_step")},
            "A step back is work that a restart did again.",
        ),
    ),
)

ROLLOUT = Row(
    "vLLM",
    (
        Panel(
            "Requests",
            {
                "running": f"sum({_vllm('num_requests_running')})",
                "waiting": f"sum({_vllm('num_requests_waiting')})",
            },
            "Many waiting: the servers are the bottleneck.",
        ),
        Panel(
            "Tokens per second",
            {"{{pod}}": f"sum by (pod) (rate({_vllm('generation_tokens_total')}[$__rate_interval]))"},
            "By server. An idle one among busy ones is a long tail of completions.",
        ),
        Panel(
            "KV cache",
            {"{{pod}}": f"max by (pod) ({_vllm('kv_cache_usage_perc')})"},
            "Near 100 %: requests are preempted.",
            "percentunit",
        ),
        Panel(
            "Weights",
            {"version": _of_job("rljob_weight_version")},
            "Version on the servers: the number of updates.",
        ),
    ),
)

TRAINING = Dashboard(
    uid="rljob-training",
    title="RLJob: one job",
    variables={
        "namespace": "label_values(rljob_step, namespace)",
        "rljob": 'label_values(rljob_step{namespace="$namespace"}, rljob)',
    },
    rows=(NOW, LEARNING, TIME, ROLLOUT),
)
