"""Requests bound and unbound by the worker: on the fake API server, and the same on the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.bed.kubernetes import KubeApi
from support.elevation_world import Site, site

from pilothouse.access.elevation import EXPIRES_ANNOTATION, USER_ANNOTATION, binding, bindings, written
from pilothouse.access.grants import State
from pilothouse.problems import PilothouseError, Unavailable
from pilothouse.store import elevations, findings, jobs, ledger
from pilothouse.store import grants as grant_rows
from pilothouse.store.elevations import State as Bound
from pilothouse.store.jobs import JobState
from pilothouse.workflows import elevation, elevation_state
from pilothouse.workflows.elevation import KINDS, bind


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def place(request: pytest.FixtureRequest, kube_of_file: Callable[[], KubeApi], tmp_path: Path) -> Iterator[Site]:
    found: Site = site(tmp_path, kube_of_file() if request.param == "real" else None)
    for item in found.bindings():
        found.server.delete(item)
    yield found
    for item in found.bindings():
        found.server.delete(item)
    found.server.close()


def kinds_of(place: Site) -> list[str]:
    return [item.entry.kind for item in ledger.everything(place.world.store)]


def codes(place: Site) -> list[str]:
    return [item.problem.code for item in findings.current(place.world.store, "dev")]


def grant_of(place: Site, id: str) -> Any:
    found = grant_rows.get(place.world.store, id)
    assert found is not None
    return found


# ---------------------------------------------------------------- claim and give back


def test_a_claim_is_bound_for_its_time_and_by_its_own_group(place: Site) -> None:
    id = place.approved()
    issued = place.claim(id)
    assert issued.groups == (f"ph:elev:{id}",)
    (found,) = place.bindings()
    assert found["kind"] == "ClusterRoleBinding"
    assert found["metadata"]["name"] == f"ph:elev:{id}"
    assert found["roleRef"]["name"] == "cluster-admin"
    assert [(item["kind"], item["name"]) for item in found["subjects"]] == [("Group", f"ph:elev:{id}")]
    assert found["metadata"]["annotations"][EXPIRES_ANNOTATION] == written(issued.not_after)
    assert found["metadata"]["annotations"][USER_ANNOTATION] == "olga"
    assert kinds_of(place)[-3:] == ["certificate.intent", "elevation.bound", "certificate.issued"]
    row = elevations.get(place.world.store, id)
    shown = elevation_state.shown(grant_of(place, id), row, place.world.now)
    assert shown.state == "bound"
    assert shown.text.startswith("bound on dev since ")


def test_to_give_back_ends_the_rights(place: Site) -> None:
    id = place.approved()
    place.claim(id)
    said = place.give_back(id).meaning
    assert said == "It is given back: its certificate has no rights on dev any more."
    assert place.bindings() == []
    row = elevations.get(place.world.store, id)
    assert row is not None
    assert row.state is Bound.GONE
    assert kinds_of(place)[-1] == "elevation.unbound"
    assert elevation_state.shown(grant_of(place, id), row, place.world.now).state == "gone"
    elevation.run(place.upkeep, place.reach)  # and once more changes nothing
    assert kinds_of(place)[-1] == "elevation.unbound"


def test_a_certificate_that_is_given_back_by_its_serial_loses_its_binding(place: Site) -> None:
    id = place.approved()
    issued = place.claim(id)
    assert "no rights on dev" in place.give_back(issued.serial).meaning
    assert place.bindings() == []
    assert grant_of(place, id).state is State.GIVEN_BACK


@pytest.mark.parametrize("by_serial", [False, True], ids=["person", "certificate"])
def test_a_lock_ends_the_rights(place: Site, by_serial: bool) -> None:
    id = place.approved()
    issued = place.claim(id)
    step = place.lock(issued.serial if by_serial else "olga")
    assert [(item.id, item.binding) for item in step.requests] == [(id, "gone")]
    assert place.bindings() == []
    assert grant_of(place, id).state is State.GIVEN_BACK


@pytest.mark.parametrize(("away", "binding"), [(False, "gone"), (True, "stands")])
def test_a_lock_waits_for_all_bindings_together(place: Site, away: bool, binding: str) -> None:
    ids = {place.approved(profile=name) for name in ("cluster-admin", "repair")}
    for id in ids:
        place.claim(id)
    place.away, place.pauses = away, 0
    step = place.lock("olga")
    assert {(item.id, item.binding) for item in step.requests} == {(id, binding) for id in ids}
    assert place.pauses == (60 if away else 1)
    assert bool(place.bindings()) is away


def test_a_locked_person_has_no_request_to_claim(place: Site) -> None:
    id = place.approved()
    assert [item.id for item in place.lock("olga").requests] == [id]
    with pytest.raises(PilothouseError):
        place.claim(id)
    assert place.bindings() == []


def test_while_the_worker_is_away_a_give_back_says_that_rights_stand(place: Site) -> None:
    id = place.approved()
    place.claim(id)
    place.away = True
    said = place.give_back(id).meaning
    assert "still stands: the worker has not answered yet" in said
    assert len(place.bindings()) == 1
    shown = elevation_state.shown(grant_of(place, id), elevations.get(place.world.store, id), place.world.now)
    assert shown.state == "waiting"
    elevation.run(place.upkeep, place.reach)
    assert place.bindings() == []


def test_a_profile_of_teams_is_bound_in_the_namespaces_of_the_holders_teams(place: Site) -> None:
    id = place.approved("alice", "repair")
    place.claim(id, "alice")
    (found,) = place.bindings()
    assert (found["kind"], found["metadata"]["namespace"]) == ("RoleBinding", "payments")
    assert found["roleRef"]["name"] == "ph:elevated:repair"
    place.give_back(id, "alice")
    assert place.bindings() == []


def test_the_end_comes_by_itself_at_its_time(place: Site) -> None:
    id = place.approved()
    issued = place.claim(id)
    due = {job.name: job.next_run_at for job in jobs.everything(place.world.store)}
    elevation.run(place.upkeep, place.reach)
    due = {job.name: job.next_run_at for job in jobs.everything(place.world.store)}
    assert due["elevate"] is not None
    assert due["elevate"] <= issued.not_after
    place.world.later(minutes=29)
    elevation.run(place.upkeep, place.reach)
    assert len(place.bindings()) == 1
    place.world.later(minutes=1, seconds=1)
    elevation.run(place.upkeep, place.reach)
    assert place.bindings() == []


# ---------------------------------------------------------------- what fails


def test_without_a_worker_nothing_is_signed_and_the_claim_is_not_used_up(place: Site) -> None:
    id = place.approved()
    place.away = True
    with pytest.raises(Unavailable, match=r"the worker did not bind request .* within 10 s: is it running\?"):
        place.claim(id)
    assert place.pauses == 200
    assert kinds_of(place)[-2:] == ["certificate.intent", "certificate.failed"]
    assert grant_of(place, id).state is State.APPROVED
    place.away = False
    elevation.run(place.upkeep, place.reach)
    assert place.bindings() == []
    assert place.claim(id).groups == (f"ph:elev:{id}",)
    assert len(place.bindings()) == 1


def test_a_cluster_that_does_not_answer_is_named(place: Site) -> None:
    id, reach = place.approved(), place.reach

    def nobody(_cluster: Any) -> Any:
        raise Unavailable("https://dev.example does not answer: connection refused")

    place.reach = nobody
    with pytest.raises(Unavailable, match=f"dev did not bind request {id}: https://dev.example does not answer"):
        place.claim(id)
    assert grant_of(place, id).state is State.APPROVED
    place.reach = reach
    place.claim(id)
    assert len(place.bindings()) == 1


def test_what_cannot_be_removed_is_tried_again_and_said(place: Site) -> None:
    id, reach = place.approved(), place.reach
    place.claim(id)

    def nobody(_cluster: Any) -> Any:
        raise Unavailable("dev is away")

    place.reach = nobody
    assert "still stands: dev is away" in place.give_back(id).meaning
    shown = elevation_state.shown(grant_of(place, id), elevations.get(place.world.store, id), place.world.now)
    assert (shown.state, "could not be removed" in shown.text) == ("failed", True)
    state, said = elevation.run(place.upkeep, place.reach)
    assert (state, "dev is away" in said) == (JobState.PROBLEMS, True)
    place.reach = reach
    elevation.run(place.upkeep, place.reach)
    assert place.bindings() == []


# ---------------------------------------------------------------- crashes, and the sweep


def test_a_worker_that_ended_after_it_bound_takes_up_what_it_made(place: Site) -> None:
    """Killed between the binding and the record: the next run finds it made, and records it."""
    id = place.approved()
    platform = place.world.declared()
    expires = place.world.now.replace(microsecond=0) + timedelta(seconds=1800)
    made = bindings(id, "olga", expires, platform.profiles["cluster-admin"], platform, "dev", ())
    bind(place.server, made)
    (before,) = place.bindings()
    place.claim(id)
    (after,) = place.bindings()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_binding_of_an_earlier_claim_is_replaced(place: Site) -> None:
    id = place.approved()
    platform = place.world.declared()
    expires = place.world.now.replace(microsecond=0) + timedelta(seconds=900)
    bind(place.server, bindings(id, "olga", expires, platform.profiles["cluster-admin"], platform, "dev", ()))
    issued = place.claim(id)
    (after,) = place.bindings()
    assert after["metadata"]["annotations"][EXPIRES_ANNOTATION] == written(issued.not_after)


def test_the_sweep_leaves_what_stands_and_removes_what_is_over(place: Site) -> None:
    first, second = place.approved(), place.approved("alice", "repair")
    place.claim(first)
    place.claim(second, "alice")
    assert place.sweep()[0] is JobState.OK
    assert len(place.bindings()) == 2
    place.away = True  # the worker ends between the give-back and its turn
    place.give_back(first)
    assert len(place.bindings(first)) == 1
    assert place.sweep() == (JobState.OK, "1 clusters looked at, 1 bindings and roles removed")
    assert place.bindings(first) == []
    assert len(place.bindings(second)) == 1
    assert codes(place) == []


def test_the_sweep_removes_what_is_past_its_end_whatever_is_written_down(place: Site) -> None:
    id = place.approved()
    place.claim(id)
    with place.world.store.write() as connection:  # as a database that was restored from before has it
        from pilothouse.store.schema import elevation_bindings, grants

        connection.execute(elevation_bindings.delete())
        connection.execute(grants.delete())
    place.world.later(minutes=31)
    assert place.sweep()[1].endswith("1 bindings and roles removed")
    assert place.bindings() == []
    assert codes(place) == []


def test_the_sweep_removes_a_request_that_nobody_made(place: Site) -> None:
    profile = place.world.declared().profiles["cluster-admin"]
    end = written(place.world.now + timedelta(minutes=20))
    place.server.make(binding("g-nobody", "mallory", end, profile, "dev"))
    assert place.sweep()[0] is JobState.PROBLEMS
    assert place.bindings() == []
    assert codes(place) == ["access/elevation-binding-changed"]
    place.sweep()
    assert codes(place) == []


def test_a_binding_that_somebody_widened_is_made_anew(place: Site) -> None:
    id = place.approved()
    place.claim(id)
    (found,) = place.bindings()
    changed = {**found, "subjects": [*found["subjects"], {**found["subjects"][0], "name": "engineers"}]}
    del changed["metadata"]["labels"]["pilothouse.dev/profile"]
    place.server.delete(found)
    changed["metadata"] = {key: changed["metadata"][key] for key in ("name", "labels", "annotations")}
    place.server.make(changed)
    place.sweep()
    assert codes(place) == ["access/elevation-binding-changed"]
    assert place.bindings() == []
    elevation.run(place.upkeep, place.reach)
    (again,) = place.bindings()
    assert [item["name"] for item in again["subjects"]] == [f"ph:elev:{id}"]


def test_a_binding_that_somebody_took_away_is_not_made_again(place: Site) -> None:
    id = place.approved()
    place.claim(id)
    (found,) = place.bindings()
    place.server.delete(found)
    place.sweep()
    assert codes(place) == ["access/elevation-binding-changed"]
    elevation.run(place.upkeep, place.reach)
    assert place.bindings() == []
    shown = elevation_state.shown(grant_of(place, id), elevations.get(place.world.store, id), place.world.now)
    assert (shown.state, "somebody else removed it" in shown.text) == ("gone", True)


def test_a_cluster_that_cannot_be_looked_at_is_a_finding(place: Site) -> None:
    def nobody(_cluster: Any) -> Any:
        raise Unavailable("dev is away")

    place.reach = nobody
    assert place.sweep()[0] is JobState.PROBLEMS
    assert codes(place) == ["access/elevation-unseen"]


def test_a_binding_that_cannot_be_removed_is_a_finding(tmp_path: Path) -> None:
    place: Site = site(tmp_path)
    id = place.approved()
    place.claim(id)
    place.away = True
    place.give_back(id)
    place.server.forbidden.add(KINDS[0].name)
    assert place.sweep()[0] is JobState.PROBLEMS
    (found,) = findings.current(place.world.store, "dev")
    assert found.problem.code == "access/elevation-binding-stays"
    assert found.problem.hint == f"kubectl delete clusterrolebinding ph:elev:{id}"
