from dataclasses import replace

from support.access_values import elevated, profile
from support.builders import cluster, platform, service

from pilothouse.access.permissions import Person
from pilothouse.platform.model import Authority, Scope
from pilothouse.workflows.contexts import contexts

WIDE = profile("on-call", scope=Scope.CLUSTER, groups=("engineers",))
MINE = profile("developer", groups=("engineers",))


def names(person, *profiles, **clusters):
    given = replace(
        platform([service("payments/api", team="payments"), service("risk/api", team="risk")]),
        clusters=clusters or {"dev": cluster("dev")},
        profiles={item.name: item for item in profiles},
    )
    return [(item.cluster, item.profile, item.team) for item in contexts(given, person)]


def person(*teams):
    return Person("alice", groups=frozenset({"engineers"}), teams=frozenset(teams))


def test_each_standing_profile_on_each_cluster():
    both = {"dev": cluster("dev"), "prod": cluster("prod")}
    found = names(person("payments"), MINE, WIDE, elevated(groups=("engineers",)), **both)
    assert found == [(name, kind, "") for name in ("dev", "prod") for kind in ("developer", "on-call")]


def test_where_it_would_hold_nowhere_there_is_none():
    assert names(person(), MINE) == []
    assert names(person("payments"), profile("other", groups=("others",))) == []
    assert names(person("payments"), replace(MINE, clusters=frozenset({"prod"}))) == []


def test_where_vault_signs_there_is_one_for_each_team():
    vault = {"dev": replace(cluster("dev"), authority=Authority(backend="vault"))}
    assert names(person("payments", "risk"), MINE, WIDE, **vault) == [
        ("dev", "developer", "payments"),
        ("dev", "developer", "risk"),
        ("dev", "on-call", ""),
    ]
