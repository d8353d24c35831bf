"""Whether the worker's fence stands, looked at on a cluster: on the fake API server, and the same on the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from support.bed.kubernetes import KubeApi
from support.elevation_world import ACCOUNT, Site, rendered, site

from pilothouse.access.fence_state import SEAL_ANNOTATION, Standing, sealed
from pilothouse.problems import Severity, Unavailable
from pilothouse.store import findings, ledger
from pilothouse.workflows import fence_watch

POLICY, POLICY_BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def place(request: pytest.FixtureRequest, kube_of_file: Callable[[], KubeApi], tmp_path: Path) -> Iterator[Site]:
    found: Site = site(tmp_path, kube_of_file() if request.param == "real" else None)
    told: list[tuple[Any, ...]] = []
    found.upkeep.tell = lambda *message: told.append(message)
    found.told = told  # type: ignore[attr-defined]  # what the platform team was told
    yield found
    for item in found.bindings():
        found.server.delete(item)
    for manifest in rendered(found.world):
        found.server.apply(manifest, force=True)
    found.server.close()


def codes(place: Site) -> list[str]:
    return [item.problem.code for item in findings.current(place.world.store, "dev")]


def one(place: Site, kind: str, name: str = "") -> dict[str, Any]:
    return next(
        item for item in rendered(place.world) if item["kind"] == kind and name in ("", item["metadata"]["name"])
    )


def put(place: Site, manifest: dict[str, Any]) -> None:
    """As somebody else would write it: with no seal of ours anew."""
    place.server.apply(manifest, force=True)


def refused(place: Site, why: str) -> str:
    """A claim is refused with that reason, nothing is bound, and nothing was signed; the request's id."""
    id = place.approved()
    with pytest.raises(Unavailable, match="did not bind") as caught:
        place.claim(id)
    assert f"did not bind request {id}: the worker's fence does not stand: " in caught.value.message
    assert why in caught.value.message
    assert place.bindings() == []
    kinds = [item.entry.kind for item in ledger.everything(place.world.store)]
    assert "certificate.issued" not in kinds
    assert kinds[-1] == "certificate.failed"
    return id


def test_what_is_rendered_and_applied_stands(place: Site) -> None:
    platform = place.world.declared()
    with_token = place.reach(platform.clusters["dev"])
    assert fence_watch.look(with_token, platform, platform.clusters["dev"]) == ()
    place.sweep()
    assert codes(place) == []
    assert place.told == []  # type: ignore[attr-defined]
    assert place.claim(place.approved()).user == "olga"


@pytest.mark.parametrize("kind", [POLICY, POLICY_BINDING])
def test_without_the_fence_nothing_is_bound_and_it_pages(place: Site, kind: str) -> None:
    place.server.delete(one(place, kind))
    id = refused(place, f"{kind} pilothouse-elevation is missing")
    place.sweep()
    place.sweep()
    (found,) = findings.current(place.world.store, "dev")
    assert (found.problem.code, found.problem.severity) == ("access/fence-missing", Severity.ERROR)
    assert "the worker binds nothing there until it is" in found.problem.message
    ((people, subject, text),) = place.told  # type: ignore[attr-defined]  # once, not with every sweep
    assert people == ("olga", "pat")
    assert subject == "The worker's fence on dev"
    assert f"{kind} pilothouse-elevation is missing" in text
    put(place, one(place, kind))
    place.sweep()
    assert codes(place) == []
    assert place.claim(id).user == "olga"  # the same request, within its hour


def changed_policy(found: dict[str, Any]) -> dict[str, Any]:
    made = deepcopy(found)
    made["spec"]["validations"] = made["spec"]["validations"][:1]
    return made


def audits_only(found: dict[str, Any]) -> dict[str, Any]:
    made = deepcopy(found)
    made["spec"]["validationActions"] = ["Audit"]
    return made


def elsewhere_only(found: dict[str, Any]) -> dict[str, Any]:
    made = deepcopy(found)
    made["spec"]["matchResources"] = {
        "matchPolicy": "Equivalent",
        "objectSelector": {},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}},
    }
    return made


@pytest.mark.parametrize(
    ("kind", "change"),
    [(POLICY, changed_policy), (POLICY_BINDING, audits_only), (POLICY_BINDING, elsewhere_only)],
    ids=["fewer validations", "audits only", "elsewhere only"],
)
def test_a_fence_with_a_hole_binds_nothing(place: Site, kind: str, change: Callable[[Any], dict[str, Any]]) -> None:
    put(place, change(one(place, kind)))
    refused(place, f"spec of {kind} pilothouse-elevation is not what was rendered")
    place.sweep()
    assert codes(place) == ["access/fence-changed"]
    assert len(place.told) == 1  # type: ignore[attr-defined]


def test_a_right_that_was_widened_pages_and_the_fence_holds_it(place: Site) -> None:
    role = deepcopy(one(place, "ClusterRole", "pilothouse:elevation:cluster"))
    role["rules"] = [*role["rules"], {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    put(place, role)
    place.sweep()
    (found,) = findings.current(place.world.store, "dev")
    assert found.problem.code == "access/fence-changed"
    assert "rules of ClusterRole pilothouse:elevation:cluster is not what was rendered" in found.problem.message
    assert place.claim(place.approved()).user == "olga"  # its bindings are still held to the form of requests


def test_another_subject_of_its_rights_pages(place: Site) -> None:
    binding = deepcopy(one(place, "ClusterRoleBinding", "pilothouse:elevation:cluster"))
    binding["subjects"] = [
        *binding["subjects"],
        {"kind": "Group", "name": "engineers", "apiGroup": "rbac.authorization.k8s.io"},
    ]
    put(place, binding)
    place.sweep()
    assert codes(place) == ["access/fence-changed"]


def test_an_earlier_render_goes_on_and_is_told_apart(place: Site) -> None:
    """A profile was declared since: until an administrator applies that, the API server admits what the earlier fence
    says, and the worker needs no more."""
    path = place.world.platform / "platform.yaml"
    path.write_text(path.read_text().replace("name: repair", "name: mend").replace("title: Repair", "title: Mend"))
    place.upkeep.read()
    place.sweep()
    (found,) = findings.current(place.world.store, "dev")
    assert (found.problem.code, found.problem.severity) == ("access/fence-outdated", Severity.WARNING)
    assert "of an earlier render, or not applied yet" in found.problem.message
    assert place.told == []  # type: ignore[attr-defined]
    assert place.claim(place.approved()).user == "olga"
    platform = place.upkeep.opened().loaded.platform
    gaps = fence_watch.look(place.server, platform, platform.clusters["dev"])
    assert {gap.standing for gap in gaps} == {Standing.OUTDATED}
    assert not any(gap.opens for gap in gaps)


def test_a_seal_that_was_kept_over_another_content_is_no_render(place: Site) -> None:
    wanted = one(place, POLICY)
    made = changed_policy(wanted)
    assert made["metadata"]["annotations"][SEAL_ANNOTATION] == wanted["metadata"]["annotations"][SEAL_ANNOTATION]
    assert sealed(made)["metadata"]["annotations"] != wanted["metadata"]["annotations"]
    put(place, made)
    refused(place, "not what was rendered")


def test_what_cannot_be_seen_binds_nothing(place: Site) -> None:
    """Its right to look was taken away, or never applied."""
    if hasattr(place.server, "present"):  # the fake one knows no rights
        place.server.get = _forbidden
    else:
        role = deepcopy(one(place, "ClusterRole", "pilothouse:elevation"))
        role["rules"] = role["rules"][:1]
        put(place, role)
    id = place.approved()
    with pytest.raises(Unavailable, match="whether the worker's fence stands cannot be seen"):
        place.claim(id)
    assert place.bindings() == []
    place.sweep()
    assert codes(place) == ["access/fence-unseen"]


def _forbidden(_manifest: Any) -> Any:
    from pilothouse.clients.kubernetes import Forbidden

    raise Forbidden("dev answered 403: no", "")


def test_to_take_rights_away_needs_no_fence(place: Site) -> None:
    id = place.approved()
    place.claim(id)
    assert len(place.bindings(id)) == 1
    place.server.delete(one(place, POLICY))
    assert "no rights on dev" in place.give_back(id).meaning
    assert place.bindings(id) == []


def test_the_account_is_the_one_that_is_declared(place: Site) -> None:
    (condition,) = one(place, POLICY)["spec"]["matchConditions"]
    assert ACCOUNT in condition["expression"]
