"""The known ways to get more out of an authority than a profile says, as values: what is tried, and what came of it.

Each is a documented trap of Vault's PKI engine (https://developer.hashicorp.com/vault/api-docs/secret/pki) or of
certificate requests in general. Who tries them is `workflows.self_test`; nothing here talks to anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pilothouse.problems import Problem, error, warning

OPEN_CODE = "access/escape-open"
UNTRIED_CODE = "access/self-test-incomplete"


class Outcome(StrEnum):
    """What came of one attempt, the worst last."""

    REFUSED = "refused"
    HARMLESS = "harmless"
    """Signed, and nothing of what was smuggled in is in the certificate, or it was cut to what the profile gives."""
    WITHHELD = "withheld"
    """Signed by Vault, which knows no setting against it; pilothouse never hands such a certificate on."""
    UNTRIED = "untried"
    OPEN = "open"


_RANK = {outcome: number for number, outcome in enumerate(Outcome)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request: `escape` names the trap, `tried` the variant, `how` what the authority said or signed.

    `serial` is that of a certificate that the attempt left behind, decimal; its private key was thrown away.
    """

    escape: str
    tried: str
    outcome: Outcome
    how: str
    serial: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """All attempts at one escape: how many, and what came of the worst."""

    escape: str
    title: str
    tried: int
    outcome: Outcome
    how: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a self-test of one cluster's authority found. `untested` says why nothing could be tried, "" else."""

    cluster: str
    backend: str
    attempts: tuple[Attempt, ...] = ()
    untested: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """As `dataclasses.asdict` gives it; KeyError, TypeError or ValueError where something is missing."""
        attempts = tuple(
            Attempt(item["escape"], item["tried"], Outcome(item["outcome"]), item["how"], item.get("serial", ""))
            for item in data["attempts"]
        )
        return cls(data["cluster"], data["backend"], attempts, data["untested"])

    @property
    def open(self) -> tuple[Attempt, ...]:
        return tuple(item for item in self.attempts if item.outcome is Outcome.OPEN)

    @property
    def untried(self) -> tuple[Attempt, ...]:
        return tuple(item for item in self.attempts if item.outcome is Outcome.UNTRIED)

    def rows(self) -> tuple[Row, ...]:
        """One row per escape, in the order in which they were tried."""
        found: dict[str, list[Attempt]] = {}
        for item in self.attempts:
            found.setdefault(item.escape, []).append(item)
        return tuple(_row(name, items) for name, items in found.items())

    def problems(self) -> Iterator[Problem]:
        """An error for each escape that succeeded, a warning for what could not be tried."""
        if self.untested:
            yield warning(
                UNTRIED_CODE,
                f"no escape could be tried at the authority of {self.cluster}: {self.untested}",
                hint="give what it needs, and run it again",
                cluster=self.cluster,
            )
        for row in self.rows():
            if row.outcome is Outcome.OPEN:
                yield error(
                    OPEN_CODE,
                    f"an escape succeeds at the authority of {self.cluster}: {row.title}; {row.how}",
                    hint="nothing is signed for this cluster until it is closed: `pilothouse access vault apply` where"
                    " Vault signs",
                    cluster=self.cluster,
                )
            elif row.outcome is Outcome.UNTRIED:
                yield warning(
                    UNTRIED_CODE,
                    f"an escape could not be tried at the authority of {self.cluster}: {row.title}; {row.how}",
                    hint="see the reason, and run it again",
                    cluster=self.cluster,
                )


def _row(name: str, attempts: list[Attempt]) -> Row:
    worst = max(attempts, key=lambda item: _RANK[item.outcome])
    return Row(name, TITLES.get(name, name), len(attempts), worst.outcome, f"{worst.tried}: {worst.how}")


# ---------------------------------------------------------------- what is tried

TITLES = {
    "role": "an ordinary request, signed for more than its profile says",
    "not-after": "an end of the request's own, past every limit",
    "ttl": "a longer life than the profile gives",
    "name": "the name of somebody else",
    "name-case": "one's own name in another case, which is another user of Kubernetes",
    "csr": "user, groups, names and authority smuggled in the signing request",
    "key": "a key of another kind or size",
    "alternative-names": "alternative names asked for beside the request",
    "name-as-alternative": "the name as an alternative name, because exclude_cn_from_sans is left out or false",
    "parameters": "further parameters of a signature",
    "issue": "a key that the authority makes",
    "sign-verbatim": "a request signed as it stands",
    "issuer": "an authority of the request's choice",
    "other-role": "a role that is not one's own",
    "mount": "the authority, its roles or settings changed",
    "beyond": "what lies outside the mount",
    "path": "a name that leaves its path",
    "token": "no token, or an ambient one",
    "session": "no session, or one that has ended",
    "profile": "a profile that one may not have",
    "team": "the namespaces of another team",
    "cluster": "a cluster that is another, or none",
    "request": "a request that was not approved, or is another's",
    "key-reuse": "the key of another user",
    "system": "names of Kubernetes itself",
    "authority": "what the authority's own certificate and key allow",
    "socket": "what is no request at all",
}
"""Every escape by name, in words."""


@dataclass(frozen=True, slots=True)
class Try:
    """A request to sign: `body` is laid over the ordinary one, None takes a field out.

    `refuse` marks what must not be signed at all, however clean the certificate is.
    """

    escape: str
    tried: str
    body: Mapping[str, Any] = field(default_factory=dict)
    refuse: bool = False


def names_of_others(user: str) -> tuple[str, ...]:
    """Names that are not `user`'s, in the spellings that a check may take for theirs."""
    return (
        f"{user}x",
        f"x@{user}",
        f"{user}@x",
        f"x.{user}",
        f"*.{user}",
        "*",
        "localhost",
        "system:admin",
        f"{user},system:masters",
        f" {user} ",
        "",
    )


def signature_tries(user: str, not_after: str) -> Iterator[Try]:
    """What may be tried in the body of a request to sign; `not_after` is a moment past every limit, RFC 3339."""
    yield Try("not-after", f"not_after={not_after}", {"not_after": not_after, "ttl": None})
    yield Try("not-after", "not_after=9999-12-31", {"not_after": "9999-12-31T23:59:59Z", "ttl": None})
    yield Try("not-after", "not_after beside ttl", {"not_after": not_after})
    for ttl in ("720h", "876000h"):
        yield Try("ttl", f"ttl={ttl}", {"ttl": ttl})
    yield Try("ttl", "no ttl", {"ttl": None})
    for name in names_of_others(user):
        yield Try("name", f"common_name={name!r}", {"common_name": name})
    other = user.upper() if user.upper() != user else user.lower()
    if other != user:
        yield Try("name-case", f"common_name={other}", {"common_name": other})
    for extra in (
        {"alt_names": "kubernetes.default"},
        {"alt_names": user},
        {"ip_sans": "10.0.0.1"},
        {"uri_sans": "spiffe://x"},
        {"other_sans": "1.3.6.1.4.1.311.20.2.3;UTF8:root"},
    ):
        yield Try("alternative-names", _words(extra), extra)
    yield Try("name-as-alternative", "exclude_cn_from_sans left out", {"exclude_cn_from_sans": None})
    yield Try("name-as-alternative", "exclude_cn_from_sans=false", {"exclude_cn_from_sans": "false"})
    yield Try("name-as-alternative", "exclude_cn_from_sans=''", {"exclude_cn_from_sans": ""})
    for further in (
        {"serial_number": "1"},
        {"user_ids": "0"},
        {"issuer_ref": "default"},
        {"organization": "system:masters"},
        {"key_usage": ["CertSign"]},
        {"ext_key_usage": ["ServerAuth"]},
        {"not_before_duration": "8760h"},
    ):
        yield Try("parameters", _words(further), further)


def other_paths(role: str) -> tuple[tuple[str, str], ...]:
    """(escape, path below the PKI mount) of what signs or makes a key by another door; harmless to try."""
    return (
        ("issue", f"issue/{role}"),
        ("issue", f"issuer/default/issue/{role}"),
        ("sign-verbatim", "sign-verbatim"),
        ("sign-verbatim", f"sign-verbatim/{role}"),
        ("sign-verbatim", "issuer/default/sign-verbatim"),
        ("sign-verbatim", f"issuer/default/sign-verbatim/{role}"),
        ("issuer", f"issuer/default/sign/{role}"),
        ("other-role", "sign/pilothouse-no-such-role"),
        ("other-role", "sign/req_00000000-0000-4000-8000-000000000000_g-none"),  # another's, for a request
    )


def changing_paths(mount: str, role: str, login: str) -> tuple[tuple[str, str], ...]:
    """(escape, path) of what would change something if it worked: asked about, never tried."""
    inside = (
        f"roles/{role}",
        "roles/pilothouse-self-test",
        "roles/req_00000000-0000-4000-8000-000000000000_g-none",
        "root/generate/internal",
        "root/generate/exported",
        "root/sign-intermediate",
        "root/sign-self-issued",
        "root/rotate/internal",
        "root",
        "intermediate/generate/internal",
        "intermediate/set-signed",
        "issuer/default",
        "issuer/default/sign-intermediate",
        "issuers/import/bundle",
        "keys/generate/exported",
        "config/issuers",
        "config/urls",
        "config/ca",
        "revoke",
        "tidy",
    )
    return (
        *(("mount", f"{mount}/{path}") for path in inside),
        *(
            ("beyond", path)
            for path in (
                "auth/token/create",
                "auth/token/create-orphan",
                f"auth/{login}/config",
                f"auth/{login}/groups/engineers",
                "identity/entity",
                "identity/entity-alias",
                "identity/group/name/x",
                "sys/policies/acl/x",
                "sys/mounts/x",
                f"sys/mounts/{mount}/tune",
                "sys/auth/x",
                "sys/audit/x",
                "sys/raw/x",
            )
        ),
    )


LEAVING = ("../../token/create", "../sign-verbatim/x", "..", "alice/../bob", "%2e%2e/x", "a?b", "a#b", "-x")
"""Names that would leave their place in a path."""


def _words(extra: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in extra.items())


def summary(reports: Iterable[Report]) -> str:
    """`53 escapes tried at dev and prod: none succeeded.`"""
    found = tuple(reports)
    tried = sum(len(item.attempts) - len(item.untried) for item in found)
    succeeded = sum(len(item.open) for item in found)
    where = " and ".join(item.cluster for item in found if item.attempts) or "no cluster"
    end = f"{succeeded} succeeded" if succeeded else "none succeeded"
    return f"{tried} attempts at {where}: {end}."
