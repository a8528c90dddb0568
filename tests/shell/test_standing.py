"""What stands in the cluster and nothing asks for any more."""

from __future__ import annotations

from builders import JOB
from rljob_operator import names
from rljob_operator.cluster.children import Children
from rljob_operator.cluster.standing import RUNS_KEPT, Standing

KEY = ("here", JOB)
JOB_UID = "uid-of-the-job"


def superfluous(*config_maps: str) -> list[str]:
    """Of the job's ConfigMaps, those of these names: all have its label and its owner, as copies have too."""
    children = Children(lambda _: None)
    for name in config_maps:
        metadata = {
            "name": name,
            "namespace": KEY[0],
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "labels": names.object_labels(JOB),
            "ownerReferences": [{"uid": JOB_UID, "controller": True}],
        }
        children.metadata["ConfigMap"].changed({"metadata": metadata})
    return [one.name for one in Standing(children).superfluous(KEY, JOB_UID, [])]


RUNS = [names.run_config_map(JOB, number) for number in range(1, RUNS_KEPT + 2)]


def test_runs_before_the_newest_few_are() -> None:
    assert superfluous(*RUNS) == [RUNS[0]]


def test_a_copy_that_somebody_made_of_a_run_is_not_and_counts_as_none() -> None:
    copies = [f"{RUNS[1]}-backup", f"{RUNS[1]}-0", f"my-{RUNS[1]}", f"{JOB}-run-01", "x"]
    assert superfluous(*RUNS, *copies) == [RUNS[0]]
    assert superfluous(*RUNS[1:], *copies) == []
