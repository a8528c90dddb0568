"""What every model of the API shares: one base class per direction, and the scalar types used in several sections."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

GROUP = "rljob.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "RLJob"

Manifest = dict[str, Any]
"""A Kubernetes object as plain data. The only place where `Any` is allowed."""


def without_nulls(value: Any) -> Any:
    """`value` without the fields that are null: the API server drops them before it applies defaults."""
    match value:
        case dict():
            return {key: without_nulls(item) for key, item in value.items() if item is not None}
        case list():
            return [without_nulls(item) for item in value]
        case _:
            return value


class Spec(BaseModel):
    """A part of what a user writes: camelCase outside, frozen, unknown keys refused, no type coercion.

    Coercion is off because the API server does not coerce either: `replicas: "2"` is a mistake in both places.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        defer_build=True,  # a model that is only part of another needs no validator of its own: a faster start
    )

    @classmethod
    def parse(cls, manifest: Manifest) -> Self:
        """Read plain data as the API server would: by JSON's types, no coercion; a null field is an absent one, and
        a name in snake case an unknown one.

        Raises `pydantic.ValidationError`.
        """
        return cls.model_validate_json(json.dumps(without_nulls(manifest)), by_alias=True, by_name=False)


class Record(BaseModel):
    """A part of what the system writes (status, run, progress, manifest).

    Unknown keys are ignored, so that an older reader survives a newer writer. NaN stays NaN: a metric may be one.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        ser_json_inf_nan="constants",
        use_attribute_docstrings=True,
        defer_build=True,  # a model that is only part of another needs no validator of its own: a faster start
    )


Fraction = Annotated[str, Field(pattern=r"^(0(\.[0-9]+)?|1(\.0+)?)$")]
"""A decimal number from 0 to 1, as a string: Kubernetes APIs avoid floats."""

Decimal = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?$", max_length=16)]
"""A decimal number of at least 0, as a string: Kubernetes APIs avoid floats."""

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$", max_length=32)]
"""A Kubernetes resource quantity, for example `500Gi`."""


DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
"""A name of one part, for example that of a volume."""

DnsSubdomain = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253)
]
"""Name of most Kubernetes objects."""

LabelKey = Annotated[
    str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=317)
]
"""Key of a label, an annotation or a taint, with or without the domain of its owner."""

LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
"""Value of a label."""

ShortText = Annotated[str, Field(min_length=1, max_length=1024)]
"""An item of a list of texts. The bound keeps rules over such lists within the API server's cost budget."""


def shortened(text: str, limit: int) -> str:
    """At most so many characters; an ellipsis ends what was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def many(number: int, thing: str) -> str:
    """`1 restart`, `2 restarts`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _refuse_repeated_names(items: list[Any]) -> list[Any]:
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            raise ValueError(f"the name `{item.name}` is there twice: remove or rename one.")
        seen.add(item.name)
    return items


BY_NAME = AfterValidator(_refuse_repeated_names)
"""Marks a list whose items are told apart by `name`."""

BY_NAME_SCHEMA: dict[str, JsonValue] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
}
"""The same for the API server: names are unique, and server-side apply merges by name."""


class LocalReference(Spec):
    """An object of the job's namespace."""

    name: DnsSubdomain
    """Its name."""


class KeyReference(Spec):
    """One key of a Secret of the job's namespace."""

    name: DnsSubdomain
    """Name of the Secret."""
    key: str = Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)
    """Key in it."""


class EnvVarSource(Spec):
    """Where a value comes from."""

    secret_key_ref: KeyReference
    """A Secret. `rljob run` takes the variable of your own environment instead."""


class EnvVar(Spec):
    """One environment variable, as in core/v1."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)
    """Name of the variable."""
    value: str = Field("", max_length=4096)
    """Its value."""
    value_from: EnvVarSource | None = None
    """Where its value comes from, instead of `value`."""


class Resources(Spec):
    """Requests and limits of a container beside its accelerators, as in core/v1."""

    requests: dict[str, Quantity] = Field({}, max_length=16)
    """What the scheduler sets aside, for example `{cpu: "4", memory: 32Gi}`."""
    limits: dict[str, Quantity] = Field({}, max_length=16)
    """What the container may not exceed."""
