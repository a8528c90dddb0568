"""Dashboards as Grafana reads them, made from what matters: rows of panels, each with its queries and unit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rljob_api.base import Manifest

GRID_COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    queries: dict[str, str]
    """PromQL by legend; `{{label}}` in a legend is the label's value."""
    text: str
    """What it means, and when to worry."""
    unit: str = "short"
    kind: Literal["timeseries", "stat"] = "timeseries"


@dataclass(frozen=True)
class Row:
    """Panels side by side under a title."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """A page."""

    uid: str
    title: str
    variables: dict[str, str]
    """What the reader chooses, by name: a query that lists the choices."""
    rows: tuple[Row, ...]

    @property
    def queries(self) -> list[str]:
        """All PromQL of its panels."""
        return [query for row in self.rows for panel in row.panels for query in panel.queries.values()]


def to_json(board: Dashboard) -> str:
    """What Grafana imports."""
    page = {
        "uid": board.uid,
        "title": board.title,
        "tags": ["rljob"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source_choice(), *_choices(board.variables)]},
        "panels": list(_panels(board.rows)),
    }
    return json.dumps(page, indent=1) + "\n"


def _source_choice() -> Manifest:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _choices(variables: dict[str, str]) -> Iterator[Manifest]:
    for name, query in variables.items():
        yield {"name": name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "sort": 1}


def _panels(rows: tuple[Row, ...]) -> Iterator[Manifest]:
    """Grafana wants each panel's place, and a number of its own."""
    number, top = 0, 0
    for row in rows:
        number += 1
        yield {"id": number, "type": "row", "title": row.title, "gridPos": _place(0, top, GRID_COLUMNS, 1)}
        width, height = GRID_COLUMNS // len(row.panels), _height(row)
        for column, panel in enumerate(row.panels):
            number += 1
            place = _place(column * width, top + 1, width, height)
            yield {"id": number, "gridPos": place, **_panel(panel)}
        top += 1 + height


def _height(row: Row) -> int:
    return 4 if all(panel.kind == "stat" for panel in row.panels) else 8


def _place(x: int, y: int, width: int, height: int) -> Manifest:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> Manifest:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0} if panel.unit != "short" else {}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": SOURCE}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }
