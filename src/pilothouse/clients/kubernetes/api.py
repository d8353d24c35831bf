"""What pilothouse asks of an API server: objects, server-side apply, deletion, tokens.

Sources: https://kubernetes.io/docs/reference/using-api/server-side-apply/ (apply, conflicts, `force`),
https://kubernetes.io/docs/reference/using-api/api-concepts/ (paging, dry run, `fieldValidation`),
https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pilothouse.artifacts.objects import MANAGER, Object, ObjectKey
from pilothouse.clients.kubernetes import kinds
from pilothouse.clients.kubernetes.kinds import Kind
from pilothouse.clients.kubernetes.transport import Answered, Clash, Query, Rejected, Transport
from pilothouse.problems import Conflict, Invalid, Unavailable

LIST_SECONDS = 60.0
RESTARTS = 3
"""How often a list is begun again after its token expired; then it is asked for in one piece."""
_DRY = ("dryRun", "All")


@dataclass(frozen=True, slots=True)
class Clashing:
    """A field that another manager owns. `field` is as the server writes it, such as `.spec.egress`."""

    manager: str
    field: str

    def __str__(self) -> str:
        return f"{self.field} ({self.manager})"


class FieldConflict(Conflict):
    """An apply that would take fields from somebody else; nothing was changed."""

    def __init__(self, key: ObjectKey, fields: tuple[Clashing, ...]) -> None:
        super().__init__(
            f"{key}: somebody else set {', '.join(map(str, fields))}",
            "declare what was done by hand, or take the fields back with `pilothouse apply --force-conflicts`",
        )
        self.key = key
        self.fields = fields


class Api:
    """One API server. Safe to share between threads."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.host = transport.host

    def close(self) -> None:
        self.transport.close()

    # ------------------------------------------------------------ reading

    def served(self) -> frozenset[str] | None:
        """The versions of groups that the cluster serves, or None where it does not say.

        Without this a kind that does not exist looks forbidden to whoever may not read it.
        """
        try:
            groups = self.transport.call("GET", "/apis", "discover").body.get("groups")
        except Answered:
            return None
        return frozenset(
            version["groupVersion"]
            for group in groups or ()
            for version in group.get("versions", ())
            if isinstance(version.get("groupVersion"), str)
        )

    def version(self) -> str:
        """Such as `v1.34.4`."""
        return str(self.transport.call("GET", "/version", "version").body.get("gitVersion", ""))

    def objects(
        self,
        kind: Kind,
        page: int = 500,
        selector: str = "",
        progress: Callable[[str, int], None] | None = None,
        namespace: str = "",
    ) -> list[Any]:
        """Every object of a kind. A list whose token expired is begun again: a half of it is no list."""
        query = [("labelSelector", selector)] if selector else []
        path = kind.at(namespace)
        for _ in range(RESTARTS):
            try:
                return self._pages(kind, path, page, query, progress)
            except Answered as answer:
                if answer.status != 410:
                    raise
        return self._pages(kind, path, 0, query, progress)

    def _pages(
        self, kind: Kind, path: str, limit: int, query: Query, progress: Callable[[str, int], None] | None
    ) -> list[Any]:
        items: list[Any] = []
        token = ""
        defaults = {"kind": kind.name, "apiVersion": kind.group_version}
        while True:
            asked = [*query, *([("limit", str(limit))] if limit else []), *([("continue", token)] if token else [])]
            data = self.transport.call("GET", path, "list", query=asked, read=LIST_SECONDS).body
            found = data.get("items")
            if found is not None and not isinstance(found, list):
                raise Unavailable(f"{self.host} answered GET {path}, and this is no list", "is it an API server?")
            # Items of a list leave out what the list says of all of them.
            items.extend({**defaults, **item} if isinstance(item, dict) else item for item in found or ())
            if progress:
                progress(kind.plural, len(items))
            token = (data.get("metadata") or {}).get("continue") or ""
            if not token:
                return items

    def get(self, manifest: Object) -> dict[str, Any] | None:
        """The object that the manifest names as it is now, or None."""
        return self.read(_path(manifest))

    def read(self, path: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.transport.call("GET", path, "get").body
        except Rejected as answer:
            if answer.absent:
                return None
            raise
        return found

    def read_dated(self, path: str) -> tuple[dict[str, Any] | None, datetime]:
        """The object at that path or None, and the server's time (its `Date`; ours where a proxy took that away)."""
        try:
            reply = self.transport.call("GET", path, "get")
        except Rejected as answer:
            if answer.absent:
                return None, _moment(answer.date)
            raise
        return reply.body, _moment(reply.date)

    def has_namespace(self, name: str) -> bool:
        return self.read(f"/api/v1/namespaces/{name}") is not None

    # ------------------------------------------------------------ changing

    def apply(self, manifest: Object, dry_run: bool = False, force: bool = False) -> dict[str, Any]:
        """Server-side apply under our field manager; the object as it is (or would be) afterwards.

        An unknown field is refused. `FieldConflict` where somebody else owns a field and `force` is not said.
        """
        query = [("fieldManager", MANAGER), ("fieldValidation", "Strict"), ("force", "true" if force else "false")]
        try:
            found: dict[str, Any] = self.transport.call(
                "PATCH",
                _path(manifest),
                "dry-run" if dry_run else "apply",
                query=[*query, _DRY] if dry_run else query,
                body=manifest,
                content="application/apply-patch+yaml",
                repeatable=True,
            ).body
        except Clash as answer:
            if fields := _clashing(answer):
                raise FieldConflict(ObjectKey.of(manifest), fields) from answer
            raise
        return found

    def remove_fields(self, current: Object, paths: tuple[tuple[str, ...], ...], dry_run: bool = False) -> None:
        """Take fields out of an object, whoever owns them; `Conflict` where it has changed since it was read."""
        metadata = current["metadata"]
        patch: dict[str, Any] = {"metadata": {"resourceVersion": metadata["resourceVersion"]}}
        for path in paths:
            place = patch
            for name in path[:-1]:
                place = place.setdefault(name, {})
            place[path[-1]] = None
        self.transport.call(
            "PATCH",
            _path(current),
            "dry-run" if dry_run else "patch",
            query=[("fieldManager", MANAGER), *([_DRY] if dry_run else [])],
            body=patch,
            content="application/merge-patch+json",
        )

    def delete(self, manifest: Object, dry_run: bool = False) -> bool:
        """Delete that very object: where it has a UID, no other of its name. False where it is gone already."""
        uid = (manifest.get("metadata") or {}).get("uid")
        options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if dry_run:
            options["dryRun"] = ["All"]
        try:
            self.transport.call("DELETE", _path(manifest), "dry-run" if dry_run else "delete", body=options)
        except Rejected as answer:
            if answer.absent:
                return False
            raise
        return True

    def make(self, manifest: Object) -> dict[str, Any]:
        """Create an object that must not be there yet; `Clash` where one of its name is."""
        kind = kinds.of(manifest)
        namespace = manifest["metadata"].get("namespace", "") if kind.namespaced else ""
        return self.create(kind.at(namespace), manifest, "create")

    def create(self, path: str, body: Mapping[str, Any], operation: str) -> dict[str, Any]:
        found: dict[str, Any] = self.transport.call("POST", path, operation, body=body).body
        return found

    def replace(self, path: str, body: Mapping[str, Any], operation: str) -> dict[str, Any]:
        """A PUT; with a resourceVersion in it, `Conflict` where somebody was faster."""
        found: dict[str, Any] = self.transport.call("PUT", path, operation, body=body).body
        return found

    def token(
        self, namespace: str, account: str, audiences: tuple[str, ...] = (), seconds: int = 3600
    ) -> tuple[str, datetime]:
        """A token of that ServiceAccount for those audiences (none: the API server's own), and when it expires."""
        spec: dict[str, Any] = {"expirationSeconds": seconds}
        if audiences:
            spec["audiences"] = list(audiences)
        made = self.create(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
            "token",
        )
        status = made.get("status") or {}
        if not isinstance(status.get("token"), str) or not isinstance(status.get("expirationTimestamp"), str):
            raise Unavailable(f"{self.host} gave no token for {namespace}/{account}", "is it a Kubernetes API server?")
        return status["token"], datetime.fromisoformat(status["expirationTimestamp"])


def _moment(date: str) -> datetime:
    try:
        return parsedate_to_datetime(date).astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)


def _path(manifest: Object) -> str:
    try:
        kind = kinds.of(manifest)
    except KeyError as missing:
        raise Invalid(
            f"{manifest.get('apiVersion')} {manifest.get('kind')} is no kind that pilothouse applies",
            "apply it with the tool that made it",
        ) from missing
    metadata = manifest["metadata"]
    return kind.at(metadata.get("namespace", "") if kind.namespaced else "", metadata["name"])


def _clashing(answer: Clash) -> tuple[Clashing, ...]:
    """`conflict with "kubectl-edit" using networking.k8s.io/v1` by field, as the Status' causes say it."""
    found = []
    for cause in answer.details.get("causes") or ():
        if cause.get("reason") == "FieldManagerConflict":
            said = str(cause.get("message", ""))
            manager = said.split('"')[1] if said.count('"') >= 2 else said
            found.append(Clashing(manager, str(cause.get("field", ""))))
    return tuple(found)
