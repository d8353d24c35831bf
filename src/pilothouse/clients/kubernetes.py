"""The cluster of a kubeconfig, read as a snapshot through the kubernetes client (extra `[live]`).

Raw JSON is read, page by page, and never the client's models: those take many times the memory, and turn names into
snake case. Paging follows https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks:
a `continue` token that has expired (410 Gone) starts the list again.

Nothing of the client's leaves this module: its exceptions end here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pilothouse.inventory.model import Snapshot
from pilothouse.inventory.parse import Locate, at, parse
from pilothouse.problems import (
    Denied,
    Invalid,
    PilothouseError,
    Place,
    Problem,
    Problems,
    Unavailable,
    ordered,
    warning,
)

CONNECT_SECONDS = 5
READ_SECONDS = 60
RESTARTS = 3
"""How often a list is begun again after its token expired; then it is asked for in one piece."""
MAX_PAGE_BYTES = 500_000_000

Progress = Callable[[str, int], None]
"""Told the kind and how many objects of it have arrived."""


@dataclass(frozen=True)
class Kind:
    """A list of the API: `path` below the server, and what to say when it may not be read."""

    path: str
    plural: str
    name: str
    group: str = ""

    @property
    def group_version(self) -> str:
        """As `apiVersion` writes it."""
        return self.path.removeprefix("/apis/").removeprefix("/api/").rpartition("/")[0]

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _kinds(prefix: str, group: str, *names: str) -> tuple[Kind, ...]:
    """`names` are kinds; `Ingress` → `ingresses`, `NetworkPolicy` → `networkpolicies`."""
    found = []
    for name in names:
        lower = name.lower()
        plural = f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}es" if lower.endswith("s") else f"{lower}s"
        found.append(Kind(f"{prefix}/{plural}", plural, name, group))
    return tuple(found)


def _group(group: str, version: str, *names: str) -> tuple[Kind, ...]:
    return _kinds(f"/apis/{group}/{version}", group, *names)


CORE = (
    *_kinds("/api/v1", "", "Namespace", "Node", "Pod", "Service", "ServiceAccount"),
    *_group("discovery.k8s.io", "v1", "EndpointSlice"),
    *_group("networking.k8s.io", "v1", "NetworkPolicy", "Ingress"),
    *_group("rbac.authorization.k8s.io", "v1", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
)
"""What every cluster serves."""

_CALICO = (
    "Tier",
    "NetworkPolicy",
    "GlobalNetworkPolicy",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
    "NetworkSet",
    "GlobalNetworkSet",
    "HostEndpoint",
)
CALICO = (
    _group("projectcalico.org", "v3", *_CALICO),
    _group("crd.projectcalico.org", "v1", *_CALICO),
)
"""Calico's kinds by its API server, else as CRDs: the same objects, so the first that is served is read alone."""

OPTIONAL = (
    *_group("policy.networking.k8s.io", "v1alpha1", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"),
    *_group("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy"),
)


class _Answer(Exception):
    """An answer that is no list. `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass
class _Reader:
    """One reading of a cluster."""

    api: Any
    page: int
    progress: Progress | None
    host: str = ""
    problems: list[Problem] = field(default_factory=list)
    absent: list[Kind] = field(default_factory=list)

    def objects(self) -> Iterator[tuple[Any, Locate]]:
        for kind in CORE:
            yield from self.kind(kind)
        served = self.served()
        for kinds in CALICO:
            if served is not None and kinds[0].group_version not in served:
                self.absent.extend(kinds)
                continue
            before = len(self.absent)
            for kind in kinds:
                yield from self.kind(kind)
            if len(self.absent) - before < len(kinds):
                break  # this group is served (a version of Calico may lack single kinds)
        for kind in OPTIONAL:
            if served is None or kind.group_version in served:
                yield from self.kind(kind)
            else:
                self.absent.append(kind)

    def served(self) -> frozenset[str] | None:
        """The versions of groups that the cluster serves, or None where it does not say.

        Without this a kind that does not exist looks forbidden to whoever may not read it.
        """
        try:
            groups = self.get("/apis", []).get("groups")
        except _Answer:
            return None
        return frozenset(
            version["groupVersion"]
            for group in groups or ()
            for version in group.get("versions", ())
            if isinstance(version.get("groupVersion"), str)
        )

    def kind(self, kind: Kind) -> Iterator[tuple[Any, Locate]]:
        where = at(Place(f"{self.host}{kind.path}"))
        try:
            items = self.whole(kind)
        except _Answer as answer:
            if answer.status == 404:
                self.absent.append(kind)
            elif answer.status == 403:
                self.problems.append(self.forbidden(kind, answer))
            elif answer.status == 401:
                raise Denied(
                    f"{self.host} refused the credentials of the kubeconfig",
                    "they may have expired: `pilothouse access cert` gets new ones",
                ) from answer
            else:
                raise Unavailable(
                    f"{self.host} answered {answer.status} to a list of {kind.resource}: {answer.message}",
                    "try again; `kubectl get --raw /readyz?verbose` says how the API server is",
                ) from answer
            return
        defaults = {"kind": kind.name, "apiVersion": kind.group_version}
        for item in items:
            # Items of a list leave out what the list says of all of them.
            yield ({**defaults, **item} if isinstance(item, dict) else item), where

    def whole(self, kind: Kind) -> list[Any]:
        """Every item of a kind. A list whose token expired is begun again: a half of it is no list."""
        for _ in range(RESTARTS):
            try:
                return self.pages(kind, self.page)
            except _Answer as answer:
                if answer.status != 410:
                    raise
        return self.pages(kind, 0)

    def pages(self, kind: Kind, limit: int) -> list[Any]:
        items: list[Any] = []
        token = ""
        while True:
            query = [("limit", str(limit))] if limit else []
            data = self.get(kind.path, [*query, ("continue", token)] if token else query)
            found = data.get("items")
            if found is not None and not isinstance(found, list):
                raise _Answer(200, "this is no list")
            items.extend(found or ())
            if self.progress:
                self.progress(kind.plural, len(items))
            token = (data.get("metadata") or {}).get("continue") or ""
            if not token:
                return items

    def get(self, path: str, query: list[tuple[str, str]]) -> Mapping[str, Any]:
        import urllib3
        from kubernetes.client.exceptions import ApiException

        headers = {"Accept": "application/json", "User-Agent": "pilothouse"}
        self.api.update_params_for_auth(headers, query, ["BearerToken"])
        try:
            # The transport below `call_api`, which itself fails on an error without a body.
            response = self.api.rest_client.GET(
                self.host + path,
                headers=headers,
                query_params=query,
                _preload_content=False,
                _request_timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
            raw = response.read(MAX_PAGE_BYTES + 1)
        except ApiException as failure:
            if not failure.status:
                raise self.unreachable(str(failure.reason)) from failure
            raise _Answer(int(failure.status), _message(failure.body) or str(failure.reason)) from failure
        except urllib3.exceptions.HTTPError as failure:
            raise self.unreachable(_reason(failure)) from failure
        if len(raw) > MAX_PAGE_BYTES:
            raise _Answer(200, "the page is too large; ask for fewer objects at once")
        try:
            data = json.loads(raw)
        except ValueError as failure:
            raise _Answer(200, "this is no JSON; is it a Kubernetes API server?") from failure
        if not isinstance(data, dict):
            raise _Answer(200, "this is no list")
        return data

    def unreachable(self, why: str) -> Unavailable:
        return Unavailable(
            f"{self.host} does not answer: {' '.join(why.split())[:300]}",
            "is it the right context (`kubectl config current-context`), and can this machine reach it?",
        )

    def forbidden(self, kind: Kind, answer: _Answer) -> Problem:
        return warning(
            "inventory/forbidden-kind",
            f"{kind.resource} may not be listed: {answer.message}",
            Place(f"{self.host}{kind.path}"),
            f"ask for the verb `list` on `{kind.resource}` in all namespaces: what depends on them is missing",
        )


def _message(body: Any) -> str:
    """The message of a Kubernetes Status, which is what an API server answers instead of a list."""
    try:
        data = json.loads(body)
        message = data.get("message")
    except (TypeError, ValueError, AttributeError):
        return ""
    return message if isinstance(message, str) else ""


def _reason(failure: Exception) -> str:
    """What lies under urllib3's retries."""
    reason = getattr(failure, "reason", None)
    return str(reason) if reason else str(failure)


def snapshot(
    kubeconfig: str | None = None,
    context: str | None = None,
    page: int = 500,
    progress: Progress | None = None,
) -> tuple[Snapshot, Problems]:
    """The cluster of that kubeconfig and context, by default the current one; inside a pod, its own cluster.

    A kind that may not be listed is a problem, a kind that the cluster does not serve is counted as 0 in `others`.
    Raises `Invalid` without a usable kubeconfig, `Denied` when its credentials are refused, and `Unavailable` when
    the server does not answer or the client is not installed.
    """
    api = connect(kubeconfig, context)
    host = str(api.configuration.host).rstrip("/")
    reader = _Reader(api, page, progress, host)
    try:
        found, problems = parse(reader.objects(), source=host)
    finally:
        api.close()
    others = {**found.others, **{f"{kind.name}.{kind.group}" if kind.group else kind.name: 0 for kind in reader.absent}}
    return replace(found, others=dict(sorted(others.items()))), ordered((*problems, *reader.problems))


def connect(kubeconfig: str | None = None, context: str | None = None) -> Any:
    """An API client of the kubernetes package for that kubeconfig and context."""
    try:
        import kubernetes.client
        import kubernetes.config
        import yaml
    except ImportError as missing:
        raise Unavailable(
            "reading a live cluster needs the kubernetes client, which is not installed",
            "pip install 'pilothouse[live]'",
        ) from missing
    try:
        if not kubeconfig and not context and _inside_a_pod():
            configuration = kubernetes.client.Configuration()
            kubernetes.config.load_incluster_config(client_configuration=configuration)
            return kubernetes.client.ApiClient(configuration)
        # The package reads KUBECONFIG once, when it is imported; what holds is what the variable says now.
        file = kubeconfig or os.environ.get("KUBECONFIG") or None
        return kubernetes.config.new_client_from_config(config_file=file, context=context, persist_config=False)
    except (kubernetes.config.ConfigException, yaml.YAMLError, OSError) as failure:
        raise _unusable(kubeconfig, str(failure)) from failure
    except (AttributeError, KeyError, TypeError, ValueError) as failure:
        # The client reads a malformed kubeconfig without looking, and trips over it.
        raise _unusable(kubeconfig, "it is malformed") from failure


def _inside_a_pod() -> bool:
    default = Path("~/.kube/config").expanduser()
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ and not default.exists()


def _unusable(kubeconfig: str | None, why: str) -> PilothouseError:
    name = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return Invalid(
        f"no usable kubeconfig at {name}: {' '.join(why.split())[:300]}",
        "set KUBECONFIG, name a --context that it holds, or read a snapshot file instead",
    )
