import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.access_values import elevated, profile
from support.builders import bundle_content, cluster, inputs, service

from pilothouse.access import content, derive, prove, vault
from pilothouse.access.content import PathRule
from pilothouse.platform.authority import Authority
from pilothouse.platform.model import Scope, Secret
from pilothouse.problems import Place

ROLE = "secrets/vault/pki-role.yaml"
SETTINGS = "secrets/vault/settings.yaml"
ENGINEER = "secrets/vault/policies/engineer.yaml"
WORKLOAD = "secrets/vault/policies/workload.yaml"

SERVICES = (
    service("payments/api", secrets=(Secret("payments/database", "/secrets/db"), Secret("payments/key", "/secrets/k"))),
    service("cards/api", secrets=(Secret("cards/database", "/secrets/db"),)),
)


PROFILES = (profile(), elevated())


def derived(changes=None, on=None, profiles=PROFILES):
    """With content in which (path, old, new) are replaced."""
    changed = {}
    for path, old, new in changes or ():
        text = changed.get(path) or bundle_content().files[path].text
        assert old in text
        changed[path] = text.replace(old, new)
    given = inputs(SERVICES, on=on, profiles={p.name: p for p in profiles}, content=bundle_content(changed))
    return derive(given)


def test_a_pki_role_per_group_signs_that_group_alone():
    accessor = (SETTINGS, "accessors: {}", "accessors: {dev: auth_ldap_1a2b3c4d}")
    found = derived([accessor]).artifacts
    role = found["vault/pki-dev/roles/developer.payments.json"].data
    assert role["organization"] == ["ph:developer:payments"]
    assert role["allowed_domains"] == ["{{identity.entity.aliases.auth_ldap_1a2b3c4d.name}}"]
    assert role["ttl"] == role["max_ttl"] == "57600s"
    assert role["use_csr_common_name"] is False
    assert "vault/pki-dev/roles/developer.cards.json" in found


def test_without_an_accessor_a_role_signs_nothing():
    assert derived().artifacts["vault/pki-dev/roles/developer.payments.json"].data["allowed_domains"] == []


def test_a_renewed_profile_has_a_role_for_its_short_certificates():
    found = derived(profiles=(profile("developer", renewal=3600),))
    role = found.artifacts["vault/pki-dev/roles/developer.payments.json"].data
    assert (role["ttl"], role["max_ttl"]) == ("3600s", "3600s")


def test_an_elevated_profile_has_no_role_that_stands():
    assert not [d.path for d in derived().artifacts if "cluster-admin" in d.path and d.path.startswith("vault/")]


def test_a_profile_of_the_whole_cluster_has_one_role():
    found = derived(profiles=(profile(scope=Scope.CLUSTER), profile("other", clusters=frozenset(("prod",)))))
    roles = [d.path for d in found.artifacts.under("vault/pki-dev/roles/")]
    assert roles == ["vault/pki-dev/roles/developer.json"]


def test_what_an_engineers_token_may_do():
    policy = derived().artifacts["vault/sys/policies/acl/ph.dev.profile.developer.payments.json"].data
    assert policy["path"]["pki-dev/sign/developer.{{identity.groups.names.ph_dev_payments.metadata.team}}"] == {
        "capabilities": ["update"],
        "allowed_parameters": {"csr": [], "common_name": [], "ttl": [], "exclude_cn_from_sans": ["true"]},
        "required_parameters": ["csr", "common_name", "exclude_cn_from_sans"],
        "denied_parameters": {"exclude_cn_from_sans": [""]},
    }


def test_a_workload_reads_its_own_secrets_and_nothing_else():
    found = derived().artifacts
    policy = found["vault/sys/policies/acl/ph.dev.secrets.payments.api.json"].data
    assert policy == {
        "path": {
            f"kv-dev/{part}/payments/{name}": {"capabilities": ["read"]}
            for name in ("database", "key")
            for part in ("data", "metadata")
        }
        | {"auth/token/revoke-self": {"capabilities": ["update"]}}
    }
    role = found["vault/auth/kubernetes-dev/role/payments.api.json"].data
    assert role["bound_service_account_names"] == ["api"]
    assert role["bound_service_account_namespaces"] == ["payments"]
    assert role["alias_name_source"] == "serviceaccount_uid"
    assert role["token_policies"] == ["ph.dev.secrets.payments.api"]
    assert role["token_bound_cidrs"] == []


def test_a_workloads_token_may_be_bound_to_networks():
    change = (SETTINGS, "tokenNetworks: {}", "tokenNetworks: {dev: [10.40.0.0/16, 10.60.0.7/32, fd00::/64]}")
    role = derived([change]).artifacts["vault/auth/kubernetes-dev/role/payments.api.json"].data
    assert role["token_bound_cidrs"] == ["10.40.0.0/16", "10.60.0.7", "fd00::/64"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tokenNetworks: {}", "tokenNetworks: {dev: [10.40.0.1/16]}", "is no network"),
        ('image: ""', "image: registry.bank.example/pilothouse:latest", "`latest`"),
        ('image: ""', "image: pilothouse", "fixed version"),
        ('fileMode: "0444"', 'fileMode: "0644"', "only reads"),
        ("interval: 30 ", "interval: 1 ", "greater than or equal to 5"),
    ],
)
def test_settings_of_the_agent_that_cannot_be_used(old, new, said):
    assert any(said in problem.message + problem.hint for problem in derived([(SETTINGS, old, new)]).problems)


def test_a_policy_that_ends_other_tokens_is_refused():
    change = (WORKLOAD, "auth/token/revoke-self", "auth/token/revoke")
    assert "access/unsafe-vault-policy" in {problem.code for problem in derived([change]).problems}


def test_each_cluster_has_mounts_of_its_own():
    paths = {d.path for d in derived(on=cluster("prod")).artifacts}
    assert {
        "vault/sys/mounts/pki-prod.json",
        "vault/sys/mounts/kv-prod.json",
        "vault/sys/auth/kubernetes-prod.json",
    } <= paths
    named = derived(on=cluster("prod", authority=Authority(mount="authorities/prod"))).artifacts
    assert "vault/sys/mounts/authorities/prod.json" in named


def test_a_cluster_without_workload_secrets_has_no_workload_mounts():
    found = derive(inputs([service("payments/web")], profiles={"developer": profile()})).artifacts
    assert [d.path for d in found.under("vault/sys/auth")] == []


@pytest.mark.parametrize(
    ("path", "old", "new", "seen"),
    [
        (ROLE, "not_before_duration: 5m", "not_before_duration: 300s", '"not_before_duration": "300s"'),
        (SETTINGS, "tokenTtl: 20m", "tokenTtl: 10m", '"token_ttl": "10m"'),
        (SETTINGS, "kv-{cluster}", "secret-{cluster}", "secret-dev/data/payments/key"),
        (ENGINEER, "cert/ca_chain", "cert/ca", "pki-dev/cert/ca"),
        (WORKLOAD, '"{kv}/metadata/{path}"', '"{kv}/subkeys/{path}"', "kv-dev/subkeys/payments/key"),
    ],
)
def test_an_edit_of_the_content_is_seen_in_what_is_derived(path, old, new, seen):
    found = derived([(path, old, new)])
    assert seen in json.dumps([d.data for d in found.artifacts])
    assert found.problems == ()


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("use_csr_common_name: false", "use_csr_common_name: true", "use_csr_common_name"),
        ("cn_validations: [hostname]", "cn_validations: [disabled]", "cn_validations"),
        ("server_flag: false", "server_flag: true", "server_flag"),
        ("allow_ip_sans: false", "allow_ip_sans: true", "allow_ip_sans"),
        ("key_bits: 256", "key_bits: 224", "key_bits"),
        ("  allow_localhost: false\n", "", "allow_localhost"),
        ("  use_csr_sans: false\n", "", "use_csr_sans"),
        ("no_store: false", "no_store: true", "no_store"),
    ],
)
def test_a_role_that_could_sign_more_is_refused_at_its_line(old, new, field):
    (found,) = derived([(ROLE, old, new)]).problems
    assert found.code == "access/unsafe-pki-role"
    assert found.message.startswith(f"`{field}:")
    assert found.hint.startswith(f"set `{field}: ")
    assert found.place.path == ROLE
    if new:
        assert field in found.place.excerpt


def _role(settings, **changes):
    given = inputs(SERVICES, profiles={"developer": profile()})
    role = next(vault.roles(given.platform, given.cluster, settings))
    return vault.PkiRole(role.name, role.profile, role.team, role.group, {**role.body, **changes})


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"organization": ["ph:other"]}, ["access/unsafe-pki-role"]),
        ({"organization": ["system:masters"]}, ["access/unsafe-pki-role", "access/system-group"]),
        ({"max_ttl": "17h"}, ["access/unsafe-pki-role"]),
        ({"allowed_domains": ["root"]}, ["access/unsafe-pki-role"]),
        ({}, []),
    ],
)
def test_the_proof_does_not_trust_what_made_the_role(changes, codes):
    settings, problems = content.read(bundle_content())
    assert problems == []
    assert [p.code for p in prove.role(_role(settings, **changes), settings)] == codes


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"{mount}/sign/{role}"', '"{mount}/sign/*"', "could be signed"),
        ('"{mount}/cert/ca_chain"', '"{mount}/issue/{role}"', "Vault would make the private key"),
        ('"{mount}/cert/ca_chain"', '"{mount}/sign-verbatim/+"', "the CSR would choose"),
        ('"{mount}/cert/ca_chain"', '"{mount}/issuer/*"', "the authority could be chosen"),
        ('"{mount}/cert/ca_chain"', '"auth/token/create"', "outside the PKI mount"),
        (", ttl: []", ", ttl: [], not_after: []", "lets a request set not_after"),
        (
            '      allowedParameters: {csr: [], common_name: [], ttl: [], exclude_cn_from_sans: ["true"]}\n',
            "",
            "lets a request set any parameter",
        ),
        ('"{mount}/sign/{role}"', '"{mount}/sign/{profile}"', "nothing could be signed"),
    ],
)
def test_a_policy_that_reaches_more_is_refused(old, new, said):
    found = derived([(ENGINEER, old, new)]).problems
    assert {p.code for p in found} == {"access/unsafe-vault-policy"}
    assert any(said in p.message for p in found), [p.message for p in found]
    assert found[0].place.path == ENGINEER


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"{kv}/data/{path}"', '"{kv}/data/*"', "it is a secret of payments/api"),
        ('"{kv}/metadata/{path}"', '"sys/*"', "outside the key-value mount"),
        ("capabilities: [read]", "capabilities: [read, update]", "more than to read: read, update"),
        ('"{kv}/data/{path}"', '"{kv}/{path}"', "does not reach"),
    ],
)
def test_a_workload_policy_that_reaches_more_is_refused(old, new, said):
    found = derived([(WORKLOAD, old, new)]).problems
    assert any(said in p.message for p in found), [p.message for p in found]


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a/*", "a/b/c", True),
        ("a/b*", "a/bc", True),
        ("a/b*", "a/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/+", "a/b/c", False),
        ("+/b*", "x/bcd/e", True),
        ("*", "anything/at/all", True),
    ],
)
def test_paths_match_as_vault_matches_them(pattern, path, expected):
    assert prove.matches(pattern, path) is expected


SEGMENTS = st.sampled_from(["a", "b", "ab", "+", "*", "a*", "b+", "data", "metadata"])
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join).map(lambda path: f"kv/{path}") | st.sampled_from(
    ["*", "k*", "kv/*", "+/data/a", "kv/+/*", "**", ""]
)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "a+", "*"]), min_size=1, max_size=3).map("/".join)


@given(st.lists(PATHS, unique=True, max_size=8), st.sets(PATHS, max_size=2), PATTERNS)
def test_the_index_of_paths_answers_as_one_by_one_would(paths, own, pattern):
    secrets = prove.SecretPaths(dict.fromkeys(paths, "payments/api"), "kv")
    alike = [f"kv/{part}/{path}" for path in paths for part in ("data", "metadata") if path not in own]
    first = next((full for full in alike if prove.matches(pattern, full)), None)
    number = secrets.reached(pattern, own)
    assert (None if number is None else secrets.paths[number][0]) == first


def test_the_first_path_that_is_reached_is_told_with_the_rule_that_reaches_it():
    secrets = prove.SecretPaths({"one": "payments/one", "two": "payments/two", "own": "payments/own"}, "kv")
    rules = [("kv/data/own", ("read",)), ("kv/metadata/two", ("read",)), ("kv/+/one", ("read",)), ("kv/*", ("deny",))]
    places = {path: Place("policy.yaml", line) for line, (path, _) in enumerate(rules, 1)}
    policy = vault.Policy("p", tuple(PathRule(path, given, None, places[path]) for path, given in rules))
    found = list(prove.workload_policy(policy, {"own"}, secrets))
    assert [(problem.message, problem.place) for problem in found] == [
        ("the policy p reaches `kv/data/one`: it is a secret of payments/one", places["kv/+/one"])
    ]


OUT = "exclude_cn_from_sans"


def test_a_denied_path_reaches_nothing():
    signs = PathRule("m/sign/r", ("update",), {"csr": ()}, required_parameters=(OUT,), denied_parameters={OUT: ("",)})
    denied = vault.Policy("p", (PathRule("sys/*", ("deny",)), signs))
    assert list(prove.engineer_policy(denied, "m", "r", ["m"], ["r"])) == []


def test_a_parameter_that_may_be_left_out_is_found():
    policy = vault.Policy("p", (PathRule("m/sign/r", ("update",), {"csr": ()}),))
    left_out, empty = prove.engineer_policy(policy, "m", "r", ["m"], ["r"])
    assert left_out.code == empty.code == "access/unsafe-vault-policy"
    assert "leave exclude_cn_from_sans out" in left_out.message
    assert "without a value" in empty.message


@pytest.mark.parametrize(
    ("path", "old", "new", "code"),
    [
        (SETTINGS, "kind: VaultSettings", "kind: Settings", "access/bad-value"),
        (SETTINGS, "  workloads:", "  workload:", "access/unknown-field"),
        (SETTINGS, "mount: pki-{cluster}", "mount: pki", "access/shared-mount"),
        (SETTINGS, "mount: pki-{cluster}", "mount: pki-{name}", "access/unknown-variable"),
        (SETTINGS, "mount: pki-{cluster}", "mount: 'pki-{cluster'", "access/unknown-variable"),
        (SETTINGS, "mount: pki-{cluster}", "mount: ../{cluster}", "access/bad-value"),
        (SETTINGS, "tokenTtl: 20m", "tokenTtl: 20 minutes", "access/bad-value"),
        (SETTINGS, "accessors: {}", "accessors: {dev: ldap}", "access/bad-value"),
        (SETTINGS, "maxLeaseTtl: 16h", "maxLeaseTtl: 8h", "access/lifetime"),
        (ENGINEER, "{mount}/cert", "{mnt}/cert", "access/unknown-variable"),
        (ENGINEER, "capabilities: [update]", "capabilities: [sudo]", "access/vault-capability"),
        (ENGINEER, "for: profile", "for: secret", "access/unknown-variable"),
        (WORKLOAD, "for: secret", "for: profile", "access/unknown-variable"),
        (ROLE, "spec:", "spec: [", "source/yaml-syntax"),
        (
            ROLE,
            "apiVersion: pilothouse.dev/v1",
            "---\nkind: x\n---\napiVersion: pilothouse.dev/v1",
            "access/vault-content",
        ),
    ],
)
def test_mistakes_of_the_content_are_found_at_their_place(path, old, new, code):
    found = derived([(path, old, new)])
    assert code in [p.code for p in found.problems]
    assert all(p.place.path == path for p in found.problems if p.code == code)
    if code != "access/lifetime":
        assert not list(found.artifacts.under("vault/"))
        assert list(found.artifacts.under("rbac/"))


def test_missing_files_of_the_content_are_named():
    files = {k: v for k, v in bundle_content().files.items() if not k.startswith("secrets/vault")}
    from pilothouse.inputs import Content

    found = derive(inputs([], content=Content(files))).problems
    assert {p.message for p in found} == {
        "`secrets/vault/settings.yaml` is missing",
        "`secrets/vault/pki-role.yaml` is missing",
    }
    only = {k: v for k, v in bundle_content().files.items() if "/policies/w" not in k}
    found = derive(inputs([], content=Content(only))).problems
    assert [p.message for p in found] == ["`secrets/vault/policies/ with `for: secret`` is missing"]


# ---------------------------------------------------------------- where Vault signs


def by_vault(**fields):
    return cluster("prod", authority=Authority("vault", "pki-prod", "Prod", "people/ldap"), **fields)


def test_directory_groups_get_policies_only_where_vault_signs():
    found = derived(on=by_vault()).artifacts
    mapping = found["vault/auth/people/ldap/groups/engineers.json"].data
    assert mapping == {"policies": ["ph.prod.profile.developer.cards", "ph.prod.profile.developer.payments"]}
    assert found["vault/identity/group/name/ph_prod_payments.json"].data == {
        "type": "internal",
        "metadata": {"cluster": "prod", "team": "payments"},
    }
    assert [d.path for d in derived().artifacts if "identity" in d.path or "/groups/" in d.path] == []


def test_an_accessor_that_is_not_declared_is_a_warning_and_still_signs_nothing():
    found = derived(on=by_vault())
    assert [(p.code, p.severity) for p in found.problems] == [("access/ldap-accessor-missing", "warning")]
    assert found.artifacts["vault/pki-prod/roles/developer.cards.json"].data["allowed_domains"] == []


@pytest.mark.parametrize(
    ("pattern", "path", "covers"),
    [
        ("pki/sign/developer.{{identity.groups.names.ph_prod_cards.metadata.team}}", "pki/sign/developer.cards", True),
        ("pki/sign/developer.{{identity.groups.names.ph_prod_cards.metadata.team}}", "pki/sign/developer.risk", False),
        ("pki/sign/developer.{{identity.groups.names.ph_prod_cards.metadata.other}}", "pki/sign/developer.risk", True),
        ("pki/sign/{{identity.entity.name}}", "pki/sign/on-call", True),
        ("pki/sign/{{identity.entity.name}}", "pki/issue/on-call", False),
    ],
)
def test_a_template_is_taken_for_what_it_can_become(pattern, path, covers):
    assert prove.matches(prove.filled(pattern), path) is covers


@pytest.mark.parametrize(
    "path",
    ["{mount}/sign/{{{{identity.entity.name}}}}", "{mount}/{{{{identity.entity.name}}}}/x", "{mount}/sign/{role}*"],
)
def test_a_template_of_the_content_that_reaches_further_is_found(path):
    problems = derived([(ENGINEER, '"{mount}/cert/ca_chain"', f'"{path}"')]).problems
    assert "access/unsafe-vault-policy" in {problem.code for problem in problems}
