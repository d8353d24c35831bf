"""Who may write and read the records: a role for the agents, one for each team, and which directory group gets it.

Records of all teams lie side by side in the index of their retention class, so a team's role shows the documents that
carry its name: https://www.elastic.co/docs/deploy-manage/users-roles/cluster-or-deployment-auth/controlling-access-at-document-field-level.
Privileges: https://www.elastic.co/docs/reference/elasticsearch/security-privileges.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilothouse.artifacts.model import Document, Format
from pilothouse.collectors.logging.content import Settings
from pilothouse.inputs import Inputs
from pilothouse.labels import ownership

READ = ["read", "view_index_metadata"]
WRITE = ["auto_configure", "create_doc"]
"""New documents alone, and the index that the first of them makes: an agent can neither read nor change a record."""


def documents(inputs: Inputs, settings: Settings) -> Iterator[Document]:
    """Roles, and the mappings that give them to the groups of the directory."""
    prefix = settings.retention.prefix
    marks = ownership(inputs.cluster.name)
    names = [f"{prefix}-*"]
    yield _document("roles", f"{prefix}-agents", _role([{"names": names, "privileges": WRITE}], marks))
    writing = {item.team for item in inputs.platform.services_on(inputs.cluster.name)}
    for team in inputs.platform.teams.values():
        if team.name not in writing and not team.platform:
            continue
        role = f"{prefix}-team-{team.name}"
        grant: dict[str, Any] = {"names": names, "privileges": READ}
        if not team.platform:
            grant["query"] = {"term": {"team": team.name}}
        yield _document("roles", role, _role([grant], marks))
        groups = [form for group in sorted(team.groups) for form in _forms(group)]
        if groups:
            mapping = {"enabled": True, "roles": [role], "rules": {"field": {"groups": groups}}, "metadata": marks}
            yield _document("role-mappings", role, mapping)


def _forms(group: str) -> Iterator[str]:
    """How a group may arrive: a directory gives its distinguished name, a single sign-on its name alone.

    `*` and `?` stand for anything in a rule and a `/` begins an expression, so none of them may come from a name:
    https://www.elastic.co/docs/api/doc/elasticsearch/v8/operation/operation-security-put-role-mapping.
    """
    if any(letter in group for letter in "*?\\"):
        return
    if not group.startswith("/"):
        yield group
    yield f"cn={group},*"


def _role(indices: list[dict[str, Any]], marks: dict[str, str]) -> dict[str, Any]:
    return {"cluster": [], "indices": indices, "metadata": marks}


def _document(folder: str, name: str, body: dict[str, Any]) -> Document:
    return Document(f"elasticsearch/{folder}/{name}.json", body, Format.JSON)
