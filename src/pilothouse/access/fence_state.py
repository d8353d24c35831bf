"""Whether the fence around the worker, and the worker's rights, stand on a cluster as they were rendered.

Each object of them carries a seal: a hash of the part that decides. What is on the cluster is as rendered now, or it
is an earlier render, whose seal fits what it says, or somebody changed it, and then the seal does not fit. A seal
tells a change from a render; it is no signature, and who may write these objects can write another seal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pilothouse.artifacts.objects import ObjectKey
from pilothouse.platform.model import Cluster
from pilothouse.problems import Problem, error, warning

SEAL_ANNOTATION = "pilothouse.dev/seal"
FENCE = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
"""Without these the worker binds nothing: they hold it to bindings of requests. The rest are its rights."""
_PARTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(FENCE, ("spec",)),
    "ClusterRole": ("rules", "aggregationRule"),
    "ClusterRoleBinding": ("subjects", "roleRef"),
    "RoleBinding": ("subjects", "roleRef"),
}
Manifest = Mapping[str, Any]


def seal(manifest: Manifest) -> str:
    """The hash of what the object decides, as hex."""
    text = json.dumps(_decides(manifest), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def sealed(manifest: Manifest) -> dict[str, Any]:
    """The object with its seal."""
    metadata = manifest["metadata"]
    annotations = {**(metadata.get("annotations") or {}), SEAL_ANNOTATION: seal(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _decides(manifest: Manifest) -> dict[str, Any]:
    return {part: manifest[part] for part in _PARTS[str(manifest["kind"])] if manifest.get(part)}


class Standing(StrEnum):
    """How an object that should be there is not as it should be."""

    MISSING = "missing"
    CHANGED = "changed"
    """By hand: its seal does not fit what it says."""
    OUTDATED = "outdated"
    """As an earlier render had it, or a right that was not applied yet."""


@dataclass(frozen=True, slots=True)
class Gap:
    """`parts` are those that differ, as the object calls them."""

    key: ObjectKey
    standing: Standing
    parts: tuple[str, ...] = ()

    @property
    def is_fence(self) -> bool:
        return self.key.kind in FENCE

    @property
    def opens(self) -> bool:
        """Whether the worker must not bind while it is so. An earlier fence admits what was declared then, and no
        binding of any other form: it may go on."""
        return self.is_fence and self.standing is not Standing.OUTDATED

    def __str__(self) -> str:
        if self.standing is Standing.MISSING:
            return f"{self.key} is missing"
        said = "not what was rendered" if self.standing is Standing.CHANGED else "not what is rendered now"
        return f"{' and '.join(self.parts)} of {self.key} {'is' if len(self.parts) == 1 else 'are'} {said}"


def gaps(wanted: Iterable[Manifest], found: Callable[[Manifest], Manifest | None]) -> Iterator[Gap]:
    """What of the wanted objects is not there, or not so. `found` gives the object that is called so, None without."""
    for manifest in wanted:
        key, present = ObjectKey.of(manifest), found(manifest)
        if present is None:
            # A right that is missing only keeps the worker from something, as before the first apply.
            yield Gap(key, Standing.MISSING if key.kind in FENCE else Standing.OUTDATED, ("all",))
            continue
        said = {**present, "kind": key.kind}
        now, then = _decides(manifest), _decides(said)
        parts = tuple(part for part in _PARTS[key.kind] if now.get(part) != then.get(part))
        if not parts:
            continue
        annotations = (present.get("metadata") or {}).get("annotations") or {}
        honest = annotations.get(SEAL_ANNOTATION) == seal(said)
        yield Gap(key, Standing.OUTDATED if honest else Standing.CHANGED, parts)


def problems(found: Iterable[Gap], cluster: Cluster) -> Iterator[Problem]:
    """A problem for each object that is not as rendered; of those that an apply is due for, one for all."""
    listed = tuple(found)
    apply = f"an administrator applies what is rendered: `pilothouse apply {cluster.name}`"
    for gap in listed:
        if gap.standing is Standing.OUTDATED:
            continue
        code = "access/fence-missing" if gap.standing is Standing.MISSING else "access/fence-changed"
        until = "; the worker binds nothing there until it is" if gap.opens else ""
        yield error(
            code,
            f"{gap} on {cluster.name}{until}",
            cluster.elevation.place,
            f"see the API server's audit log for who did that; {apply}",
            cluster=cluster.name,
        )
    outdated = [gap for gap in listed if gap.standing is Standing.OUTDATED]
    if outdated:
        more = f" and {len(outdated) - 1} more" if len(outdated) > 1 else ""
        yield warning(
            "access/fence-outdated",
            f"{outdated[0].key}{more} on {cluster.name} {'are' if more else 'is'} not what is rendered now, but of an"
            " earlier render, or not applied yet",
            cluster.elevation.place,
            apply,
            cluster=cluster.name,
        )
