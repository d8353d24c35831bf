"""One object while it is read: its fields, where they stand, and what is wrong with them.

Readers ask a `Document` for fields and go on with a harmless value after a complaint, so that all complaints are
found in one pass; an object with an error is left out as a whole. Places are only looked up for complaints, and what
repeats (selectors, peers, ports) is read once and remembered in a `Memory`, unless there was something to complain of.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any

from pilothouse.inventory.fields import Key, Path, dotted
from pilothouse.inventory.model import Manifest
from pilothouse.platform.model import Network
from pilothouse.policies.rules import Peer, Traffic
from pilothouse.policies.selectors import Selector
from pilothouse.problems import Place, Problem, error, nearest, one_of, warning

Object = Mapping[str, Any]

LEFT_OUT = "until then it is left out"
METADATA_ANNOTATION = "projectcalico.org/metadata"

_NONE: Object = {}
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_ENTERPRISE = frozenset(("domains", "allowedEgressDomains"))
_TOP = frozenset(("apiVersion", "kind", "metadata", "spec", "status"))


@dataclass
class Memory:
    """What was read before without a complaint, by its text."""

    selectors: dict[str, Selector] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)
    label_selectors: dict[str, Selector | None] = field(default_factory=dict)
    peers: dict[tuple[str, str], tuple[Peer, ...]] = field(default_factory=dict)
    traffic: dict[str, tuple[Traffic, ...]] = field(default_factory=dict)
    subjects: dict[tuple[str, str], tuple[Peer, ...]] = field(default_factory=dict)
    rules: dict[tuple[str, str, str], Any] = field(default_factory=dict)


class Document:
    """A manifest and the complaints about it; `failed` once one of them is an error."""

    __slots__ = ("failed", "manifest", "memory", "problems")

    def __init__(self, manifest: Manifest, memory: Memory, problems: list[Problem]) -> None:
        self.manifest = manifest
        self.memory = memory
        self.problems = problems
        self.failed = False

    @property
    def named(self) -> str:
        manifest = self.manifest
        return f"{manifest.kind} {manifest.namespace}/{manifest.name}" if manifest.namespace else self._global_name

    @property
    def _global_name(self) -> str:
        return f"{self.manifest.kind} {self.manifest.name}"

    @property
    def version(self) -> str:
        return self.manifest.api_version.rpartition("/")[2]

    # ------------------------------------------------------------ complaints

    def error(
        self,
        code: str,
        path: Path,
        message: str,
        hint: str = "",
        *,
        place: Place | None = None,
        related: tuple[Place, ...] = (),
    ) -> None:
        """An error: the object will be left out. `message` goes on after the object's name."""
        self.failed = True
        fix = f"{hint}; {LEFT_OUT}" if hint else f"correct it: {LEFT_OUT}"
        shown = _printable(f"{self.named}: {message}")
        self.problems.append(error(code, shown, place or self.at(path), fix, related=related))

    def warn(self, code: str, path: Path, message: str, hint: str = "") -> None:
        self.problems.append(warning(code, _printable(f"{self.named}: {message}"), self.at(path), hint))

    def at(self, path: Path) -> Place:
        return self.manifest.at(path)

    def within(self, path: Path, text: str, offset: int, width: int) -> Place:
        """The place of a part of the string at `path`, where that stands there on one line and without escapes."""
        place = self.at(path)
        start = place.column - 1
        if start < 0 or not place.line:
            return place
        if place.excerpt[start : start + 1] in ("'", '"') and not text.startswith(place.excerpt[start]):
            start += 1
        shown = place.excerpt[start : start + len(text)]
        if not shown or not text.startswith(shown) or offset > len(shown):
            return place
        return replace(place, column=start + offset + 1, width=max(1, min(width, len(text) - offset)))

    def bad(self, path: Path, message: str, hint: str = "") -> None:
        """A value that its field does not allow; the message goes on after the field's path."""
        self.error("policies/bad-value", path, f"`{dotted(path)}` {message}", hint)

    def missing(self, path: Path, hint: str = "") -> None:
        self.error("policies/missing-field", path[:-1], f"`{dotted(path)}` is missing", hint or f"add `{path[-1]}`")

    def unknown(self, data: Object, known: frozenset[str], path: Path) -> None:
        """Complains of the fields that are not known."""
        for name in data:
            if name in known:
                continue
            where = f" in `{dotted(path)}`" if path else ""
            if name in _ENTERPRISE and "projectcalico.org" in self.manifest.api_version:
                self.error(
                    "policies/enterprise-field",
                    (*path, Key(name)),
                    f"`{name}`{where} is a field of Calico Enterprise and Cloud: open-source Calico refuses it",
                    "name the addresses in a GlobalNetworkSet, and select that",
                )
            else:
                hint = nearest(name, known) or one_of(known, 12)
                self.error("policies/unknown-field", (*path, Key(name)), f"unknown field `{name}`{where}", hint)

    # ------------------------------------------------------------ fields

    def spec(self, known: frozenset[str]) -> Object:
        """The `spec`, its field names held against `known`; and the object's own fields and name are looked at."""
        data = self.manifest.data
        if not data.keys() <= _TOP:
            self.unknown(data, _TOP, ())
        name = self.manifest.name
        if len(name) > 253 or not _SUBDOMAIN.match(name):
            self.bad(("metadata", "name"), f"{short(name)} is no name", "lower-case letters, digits, `-` and `.`")
        spec = data.get("spec")
        if spec is None:
            return _NONE
        if not isinstance(spec, dict):
            self.bad(("spec",), f"must be a mapping, not {word(spec)}")
            return _NONE
        if not spec.keys() <= known:
            self.unknown(spec, known, ("spec",))
        return spec

    def mapping(self, data: Object, key: str, path: Path, known: frozenset[str] | None = None) -> Object | None:
        """The mapping at `key`, None where it is absent or null."""
        value = data.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.bad((*path, key), f"must be a mapping, not {word(value)}")
            return None
        if known is not None and not value.keys() <= known:
            self.unknown(value, known, (*path, key))
        return value

    def list(self, data: Object, key: str, path: Path, limit: int = 0) -> Sequence[Any]:
        """The list at `key`, empty where it is absent or null."""
        value = data.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            self.bad((*path, key), f"must be a list, not {word(value)}")
            return ()
        if limit:
            self.limit(value, limit, (*path, key))
        return value

    def limit(self, value: Sized, limit: int, path: Path) -> None:
        if len(value) > limit:
            self.error(
                "policies/too-many",
                path,
                f"`{dotted(path)}` has {len(value):,} items, and {limit:,} are allowed",
                "split the policy in two",
            )

    def item(self, value: Any, path: Path, known: frozenset[str]) -> Object | None:
        """An item of a list as a mapping, or None after a complaint."""
        if not isinstance(value, dict):
            if value is None:
                self.bad(path, "is empty", "remove the item, or write `{}` for one without conditions")
            else:
                self.bad(path, f"must be a mapping, not {word(value)}")
            return None
        if not value.keys() <= known:
            self.unknown(value, known, path)
        return value

    def string(self, data: Object, key: str, path: Path) -> str:
        """The text at `key`, "" where it is absent or null."""
        value = data.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.bad((*path, key), f"must be text, not {word(value)}", "quote it" if is_scalar(value) else "")
            return ""
        return value

    def strings(self, data: Object, key: str, path: Path, limit: int = 0) -> Sequence[str]:
        found = self.list(data, key, path, limit)
        for index, item in enumerate(found):
            if not isinstance(item, str):
                self.bad((*path, key, index), f"must be text, not {word(item)}", "quote it" if is_scalar(item) else "")
                return ()
        return found

    def boolean(self, data: Object, key: str, path: Path) -> bool:
        value = data.get(key)
        if value is None or isinstance(value, bool):
            return value is True
        self.bad((*path, key), f"must be true or false, not {word(value)}")
        return False

    def number(self, data: Object, key: str, path: Path) -> float | None:
        """The number at `key`, None where it is absent or null."""
        value = data.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            hint = "write it without quotes" if isinstance(value, str) else ""
            self.bad((*path, key), f"must be a number, not {word(value)}", hint)
            return None
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if not math.isfinite(found):
            self.bad((*path, key), "is no finite number")
            return None
        return found

    def whole(self, data: Object, key: str, path: Path, low: int, high: int) -> int | None:
        """The whole number at `key` within the bounds, None where it is absent or null."""
        value = data.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            hint = "write it without quotes" if isinstance(value, str) else ""
            self.bad((*path, key), f"must be a whole number, not {word(value)}", hint)
            return None
        if not low <= value <= high:
            self.bad((*path, key), f"{short(value)} is not within {low} to {high}")
            return None
        return value

    def choice(self, data: Object, key: str, path: Path, allowed: Collection[str], default: str = "") -> str:
        """The word at `key`, one of `allowed`; `default` where it is absent, null or something else."""
        value = self.string(data, key, path)
        if value in allowed or not value:
            return value or default
        self.bad((*path, key), f"{short(value)} is not one of {', '.join(allowed)}", nearest(value, allowed))
        return default

    def labels(self) -> tuple[tuple[str, str], ...]:
        """The object's own labels, sorted. Calico once kept those of its stored form in an annotation
        (https://github.com/projectcalico/calico/blob/master/libcalico-go/lib/backend/k8s/resources/resources.go)."""
        metadata = self.mapping(self.manifest.data, "metadata", ()) or _NONE
        stored_form = self.manifest.api_version.startswith("crd.")
        if metadata.get("labels") is None and not stored_form:
            return ()
        path: Path = ("metadata",)
        found = self.label_values(metadata, "labels", path)
        if stored_form:
            annotations = self.mapping(metadata, "annotations", path) or _NONE
            stored = annotations.get(METADATA_ANNOTATION)
            if isinstance(stored, str) and '"labels"' in stored:
                found = {**self._stored_labels(stored, (*path, "annotations", METADATA_ANNOTATION)), **found}
        return tuple(sorted(found.items()))

    def _stored_labels(self, text: str, path: Path) -> Mapping[str, str]:
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            self.bad(path, "is not valid JSON", "Calico writes this annotation: take the object from the cluster again")
            return {}
        if not isinstance(data, dict):
            self.bad(path, f"must hold a mapping, not {word(data)}")
            return {}
        return self.label_values(data, "labels", path)

    def label_values(self, data: Object, key: str, path: Path) -> Mapping[str, str]:
        """The mapping of labels at `key`, held against Kubernetes' syntax of keys and values."""
        found = self.mapping(data, key, path)
        for name, value in (found or _NONE).items():
            if not is_label_key(name):
                self.bad((*path, key, Key(name)), "is no label's key", "[prefix/]name of letters, digits, `-_.`")
            if not isinstance(value, str):
                hint = "quote it" if is_scalar(value) else ""
                self.bad((*path, key, name), f"must be text, not {word(value)}", hint)
            elif value and not _LABEL_NAME.match(value):
                self.bad((*path, key, name), f"{short(value)} is no label's value", "at most 63 letters, digits, `-_.`")
        return {} if found is None or self.failed else found


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(mark if mark.isprintable() else "\ufffd" for mark in text)


def word(value: Any) -> str:
    """What sort of value it is, for people."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"


def is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float))


def short(value: Any) -> str:
    """The value as people write it, cut where it is long."""
    text = value if isinstance(value, str) else f"{value:,}" if type(value) is int and value > 99_999 else str(value)
    return f"`{text[:60]}…`" if len(text) > 61 else f"`{text}`"


def is_label_key(text: Any) -> bool:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set"""
    if not isinstance(text, str):
        return False
    prefix, slash, name = text.rpartition("/")
    return bool(_LABEL_NAME.match(name)) and (not slash or (len(prefix) <= 253 and bool(_SUBDOMAIN.match(prefix))))


def is_label_value(text: str) -> bool:
    return not text or bool(_LABEL_NAME.match(text))


def is_name(text: str) -> bool:
    """Whether an object can have that name."""
    return len(text) <= 253 and bool(_SUBDOMAIN.match(text))


def repeated(items: Iterable[str]) -> str:
    """The first that stands twice, or ""."""
    seen: set[str] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return ""
