"""Every file that is made from the operator's code: `python -m rljob_chart.generated` (`make crds`) writes them. Those
made from the models alone, the chart's CRD among them, are written by `rljob_api.generated`.

A test fails when one of them is not what the code says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .events_and_metrics import events_and_metrics
from .grafana import to_json
from .operator_dashboard import OPERATOR
from .readme import README, readme
from .rights_template import rights_template
from .training_dashboard import TRAINING
from .values_schema import values_schema
from .values_yaml import values_yaml

CHART = "charts/rljob-operator"

GENERATED: dict[str, Callable[[], str]] = {
    f"{CHART}/values.yaml": values_yaml,
    f"{CHART}/values.schema.json": values_schema,
    f"{CHART}/templates/_rights.tpl": rights_template,
    f"{CHART}/files/dashboards/training.json": lambda: to_json(TRAINING),
    f"{CHART}/files/dashboards/operator.json": lambda: to_json(OPERATOR),
    str(README): readme,
    "docs/events-and-metrics.md": events_and_metrics,
}
"""What makes each file, by its path in the repository."""


if __name__ == "__main__":
    for name, made in GENERATED.items():
        Path(name).write_text(made(), encoding="utf-8")
