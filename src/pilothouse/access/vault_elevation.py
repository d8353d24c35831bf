"""Elevation where Vault signs: one PKI role for each request that is claimed, written by the worker.

A role that stands could be signed under without a request, so an elevated profile has none. At the claim the worker
writes `req_<entity>_<request>` into the cluster's PKI mount; `_` stands in no name of ours. It signs one group, that of
the request, for the own name of whoever signs, and the path says whose token that is: everybody may sign under the
roles that carry their own entity, by one templated policy
(https://developer.hashicorp.com/vault/docs/concepts/policies#templated-policies), and under no others.

The worker logs in by an AppRole of its own (https://developer.hashicorp.com/vault/docs/auth/approle). Its policy pins
every field of such a role to one text, so that it can write no other: fields that are not named may not be set, those
whose default of Vault would be unsafe have to be. A field that Vault takes for a list is split at commas, so that the
group may hold none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pilothouse.access import names
from pilothouse.access.content import PathRule, VaultContent
from pilothouse.access.pki_fields import NEEDED
from pilothouse.labels import GROUP_PREFIX
from pilothouse.platform.model import Cluster, Platform

PREFIX = "req_"
ENTITY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16}")
"""An entity's id: a UUID."""
GROUPS = f"{GROUP_PREFIX}{names.ELEVATION}:"
OWN = f"{PREFIX}{{{{identity.entity.id}}}}_*"
"""The roles under which a token may sign: those with its own entity in their name."""
LONGEST = 3600
"""Seconds that a certificate of a request lasts at most: an elevated profile's most."""
APPROLE = "elevator"
TOKEN_TTL, TOKEN_MAX_TTL, SECRET_TTL = "10m", "20m", "2160h"
"""Of the worker's token, and of the secret that it logs in with: 90 days, then it is made anew."""
Body = dict[str, Any]


def signs(platform: Platform, cluster: Cluster) -> bool:
    """Whether requests for elevated profiles are signed by Vault on that cluster."""
    return (
        cluster.authority.backend == "vault"
        and cluster.binds_requests
        and any(item.elevated and item.holds_on(cluster.name) for item in platform.profiles.values())
    )


def mount(cluster: str) -> str:
    """The AppRole auth mount of the cluster's worker."""
    return f"approle-{cluster}"


def role_name(entity: str, request: str) -> str:
    """The role of one request. `ValueError` for what is no entity or no request."""
    if not ENTITY.fullmatch(entity) or not names.REQUEST.fullmatch(request):
        raise ValueError(f"{entity!r} and {request!r} make no role of a request")
    return f"{PREFIX}{entity}_{request}"


def request_of(role: str) -> str:
    """The request that a role's name names, "" where it is none of a request."""
    entity, _, request = role.removeprefix(PREFIX).partition("_")
    is_one = role.startswith(PREFIX) and ENTITY.fullmatch(entity) and names.REQUEST.fullmatch(request)
    return request if is_one else ""


def is_one(role: str) -> bool:
    """Whether a role of the mount is for requests alone, well-formed or not: no standing role begins so."""
    return role.startswith(PREFIX)


def pinned(content: VaultContent, accessor: str) -> dict[str, str]:
    """Each field of such a role but the group, as the text that is sent: the content's, which has to be safe."""
    given = {**content.role, "allowed_domains": [_own_name(accessor)], "max_ttl": f"{LONGEST}s"}
    return {name: _text(value) for name, value in sorted(given.items()) if value != []}


def role_body(request: str, content: VaultContent, accessor: str) -> Body:
    """What is written for one request."""
    return {**pinned(content, accessor), "organization": f"{GROUPS}{request}"}


def same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether Vault holds what was written. It gives lists, numbers and truth values back as such."""
    return all(_plain(found.get(name)) == _plain(value) for name, value in wanted.items())


def _own_name(accessor: str) -> str:
    return f"{{{{identity.entity.aliases.{accessor}.name}}}}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(value: Any) -> str:
    text = _text(value)
    found = re.fullmatch(r"([0-9]+)([smh])", text)
    return str(int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]) if found else text


# ---------------------------------------------------------------- the policies


def elevator_rules(pki: str, content: VaultContent, accessor: str) -> tuple[PathRule, ...]:
    """What the worker may: write and remove roles of requests, and look up whose entity an engineer's name is."""
    fields = pinned(content, accessor)
    return (
        PathRule(
            f"{pki}/roles/{PREFIX}*",
            ("create", "delete", "update"),
            {**{name: (text,) for name, text in fields.items()}, "organization": (f"{GROUPS}*",)},
            required_parameters=tuple(sorted({*NEEDED, "allowed_domains", "max_ttl", "organization"})),
            # A text without anything in it passes by a list of allowed ones, and means Vault's default.
            denied_parameters={**dict.fromkeys(fields, ("",)), "organization": ("", "*,*")},
        ),
        PathRule(f"{pki}/roles/", ("list",)),
        PathRule("sys/auth", ("read",)),  # the accessor of the LDAP mount
        PathRule("identity/lookup/entity", ("update",), {"alias_name": (), "alias_mount_accessor": (accessor,)}),
        PathRule("auth/token/revoke-self", ("update",)),
    )


def documents(platform: Platform, cluster: Cluster, prefix: str) -> Iterator[tuple[str, Body]]:
    """(path, body) of the AppRole and its mount; the policies are `vault.policies_of_requests`."""
    if not signs(platform, cluster):
        return
    where = mount(cluster.name)
    yield f"sys/auth/{where}", {"type": "approle", "description": f"pilothouse's worker for cluster {cluster.name}"}
    yield (
        f"auth/{where}/role/{APPROLE}",
        {
            "bind_secret_id": True,
            "secret_id_ttl": SECRET_TTL,
            "token_policies": [f"{prefix}{APPROLE}"],
            "token_no_default_policy": True,
            "token_type": "service",
            "token_ttl": TOKEN_TTL,
            "token_max_ttl": TOKEN_MAX_TTL,
        },
    )
