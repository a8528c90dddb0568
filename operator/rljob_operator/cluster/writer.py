"""How each kind of object is written: pods, ConfigMaps and Secrets are created once, all else is applied.

Asked by `kubernetes.py` alone. An answer of the API server is one of three: done, refused (that is told to the job), or
no answer for now (the pass is tried again).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from kubernetes.utils import parse_quantity

from rljob_api.base import Manifest
from rljob_api.reasons import Reason

from .client import APPLY, JSON, ApiError, Client
from .objects import owner_of
from .resources import CHILD_KINDS, JOBS, Resource

FIELD_MANAGER = "rljob-operator"
CREATED_ONCE = frozenset({"Pod", "ConfigMap", "Secret"})
TEMPORARY = frozenset({0, 401, 408, 429})
"""Beside 5xx and conflicts (two pods may meet at a quota): says nothing about the object."""
BROKEN_WEBHOOK = "failed calling webhook"
"""What the API server answers, with 500, while an admission webhook of the cluster is down: that takes a person."""
FIELDS_OF_ANOTHER = "Apply failed with"
"""How the API server's answer begins when somebody else set a field to another value."""


def is_temporary(error: ApiError) -> bool:
    """Whether it says nothing about the object: the same request may be answered well later."""
    return error.code in TEMPORARY or error.code >= 500 or error.reason == "Conflict"


class RefusedError(Exception):
    """The API server does not want this object."""

    def __init__(self, manifest: Manifest, error: ApiError) -> None:
        super().__init__(str(error))
        self.manifest = manifest
        self.error = error


class Writer:
    """`guard` is called before each write, and raises once this process may not write any more."""

    def __init__(self, client: Client, guard: Callable[[], None]) -> None:
        self._client = client
        self._guard = guard

    async def make(self, manifest: Manifest, *, known: bool, held: bool = False) -> Manifest | None:
        """The object as it is now; None for a Secret that was there already, for we never read one.

        `known`: it stands and is the job's own, so what others changed in it is changed back.
        `held`: pods have what is in it, so another one in its place is of no use: it is only asked whether it stands.

        Raises `RefusedError`, and `ApiError` when it is worth to try again.
        """
        try:
            if manifest["kind"] in CREATED_ONCE:
                return await self._create(manifest, only_ask=held)
            return await self._apply(manifest, force=known)
        except ApiError as error:
            if is_temporary(error) and BROKEN_WEBHOOK not in error.message:
                raise
            raise RefusedError(manifest, error) from error

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, grace_seconds: int | None = None
    ) -> None:
        """Ask this very object to go, a pod within `grace_seconds`; one that is gone already is as good.

        Raises `ApiError`, with code 409 when a namesake has taken its place: the next pass will know.
        """
        body: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self._send("DELETE", resource.path(namespace, name), body)
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise

    async def put_status(self, manifest: Manifest) -> Manifest:
        """A job with a new status. Raises `ApiError`, with code 409 if the job is not any more as it was read."""
        metadata = manifest["metadata"]
        return await self._send("PUT", JOBS.path(metadata["namespace"], metadata["name"], "status"), manifest)

    async def _create(self, manifest: Manifest, *, only_ask: bool) -> Manifest | None:
        """An object of ours that stands already, because an answer was lost, is as good."""
        resource, metadata = CHILD_KINDS[manifest["kind"]], manifest["metadata"]
        params = {"dryRun": "All"} if only_ask else None  # who may create, may ask so whether a name is taken
        try:
            made = await self._send("POST", resource.path(metadata["namespace"]), manifest, params=params)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        else:
            if only_ask:
                raise RefusedError(manifest, _gone(manifest))
            return made
        if manifest["kind"] == "Secret":
            return None
        found = await self._client.send("GET", resource.path(metadata["namespace"], metadata["name"]))
        if owner_of(found) != owner_of(manifest):
            raise RefusedError(manifest, _foreign(manifest))
        return found

    async def _apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        """Without `force` an object of somebody else, who set its fields, is left alone."""
        if force and manifest["kind"] == "PersistentVolumeClaim":
            manifest = await self._not_shrunk(manifest)
        metadata = manifest["metadata"]
        path = CHILD_KINDS[manifest["kind"]].path(metadata["namespace"], metadata["name"])
        params = {"fieldManager": FIELD_MANAGER, "force": str(force).lower()}
        try:
            return await self._send("PATCH", path, manifest, params=params, content_type=APPLY)
        except ApiError as error:
            if error.message.startswith(FIELDS_OF_ANOTHER):
                raise RefusedError(manifest, _foreign(manifest)) from error
            raise

    async def _not_shrunk(self, claim: Manifest) -> Manifest:
        """With the size that the claim has, if somebody enlarged it: the API server refuses a smaller one."""
        metadata, resource = claim["metadata"], CHILD_KINDS[claim["kind"]]
        only = {"fieldSelector": f"metadata.name={metadata['name']}"}
        found = await self._client.send("GET", resource.path(metadata["namespace"]), params=only)
        sizes = [one["spec"]["resources"]["requests"]["storage"] for one in (claim, *found["items"])]
        resources = {"requests": {"storage": max(sizes, key=parse_quantity)}}
        return {**claim, "spec": {**claim["spec"], "resources": resources}}

    async def _send(
        self,
        method: str,
        path: str,
        body: Manifest,
        params: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> Manifest:
        self._guard()
        return await self._client.send(method, path, body, params=params, content_type=content_type)


def _gone(manifest: Manifest) -> ApiError:
    message = (
        f"Secret {manifest['metadata']['name']} was deleted. The pods that run have their token from it, nobody can "
        "read it back, and a pod that starts now would have another, which they refuse. So all pods stop, after "
        "saving, and start with a new one."
    )
    return ApiError(HTTPStatus.NOT_FOUND, Reason.CONTROL_SECRET_GONE, message)


def _foreign(manifest: Manifest) -> ApiError:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    message = f"there is a {kind} {name} that does not belong to this job; delete it, or rename the job"
    return ApiError(HTTPStatus.CONFLICT, "AlreadyExists", message)
