"""What is derived: documents by path, built as data and serialised once.

`path` is relative, with `/`, and the same on every machine: the first part names the
component (`prometheus/`, `alertmanager/`, `fluentd/`, `elasticsearch/`, `policies/`, `rbac/`,
`vault/`, `accounts/`, `apiserver/`, `workloads/`, `dashboards/`, `helm/`). `artifacts.write` turns a document into
bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pilothouse.problems import Problems


class Format(StrEnum):
    YAML = "yaml"
    """One document; `data` is any JSON-like value."""
    MANIFESTS = "manifests"
    """Several YAML documents; `data` is a sequence of Kubernetes manifests, each a mapping."""
    JSON = "json"
    TEXT = "text"
    """`data` is the text itself, ending in a newline (Fluentd's own format, templates)."""


@dataclass(frozen=True, slots=True)
class Document:
    """One file. `comment` is put at its head, a `#` before each line (YAML, manifests and text only)."""

    path: str
    data: Any
    format: Format = Format.YAML
    comment: str = ""


@dataclass(frozen=True)
class Artifacts:
    """Documents by path, sorted. Two documents of one path are a mistake of ours: `ValueError`."""

    documents: Mapping[str, Document] = field(default_factory=dict)

    @classmethod
    def of(cls, documents: Iterable[Document]) -> Artifacts:
        found: dict[str, Document] = {}
        for document in documents:
            if document.path in found:
                raise ValueError(f"two documents for {document.path}")
            found[document.path] = document
        return cls(dict(sorted(found.items())))

    def __or__(self, other: Artifacts) -> Artifacts:
        return Artifacts.of([*self, *other])

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents.values())

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, path: str) -> Document:
        return self.documents[path]

    def __contains__(self, path: object) -> bool:
        return path in self.documents

    def under(self, prefix: str) -> Artifacts:
        """The documents whose path starts with that prefix."""
        return Artifacts({path: document for path, document in self.documents.items() if path.startswith(prefix)})

    def manifests(self) -> Iterator[Mapping[str, Any]]:
        """Every Kubernetes manifest of every `MANIFESTS` document, in path order."""
        for document in self:
            if document.format is Format.MANIFESTS:
                yield from document.data


EMPTY = Artifacts()


@dataclass(frozen=True, slots=True)
class Derived:
    """What a component returns: its documents, and what it found on the way."""

    artifacts: Artifacts = EMPTY
    problems: Problems = ()
