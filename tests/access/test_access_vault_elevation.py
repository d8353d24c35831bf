"""What Vault holds for elevated profiles; `tests/real/test_vault_elevation.py` has what the real server makes of it."""

from dataclasses import replace

import pytest
from support.access_values import elevated, profile
from support.builders import bundle_content, cluster, inputs, platform, service

from pilothouse.access import content, derive, vault, vault_elevation
from pilothouse.platform.authority import Authority, Elevation
from pilothouse.platform.model import Endpoint, Servers

ENTITY = "3c9f1c2e-0a5b-4e57-9d0e-6f1b7a8c9d10"
ACCESSOR = "auth_ldap_0123abcd"


def settings(accessor=ACCESSOR):
    found, problems = content.read(bundle_content())
    assert found is not None, problems
    return replace(found, accessors={"dev": accessor} if accessor else {})


def on_vault(**fields):
    servers = Servers(kubernetes=Endpoint("https://api", token_file="/t"), vault=Endpoint("https://vault"))
    defaults = {"authority": Authority("vault", "pki-dev", "dev access"), "elevation": Elevation("worker", "/s")}
    return cluster("dev", servers=servers, **{**defaults, **fields})


def declared(on=None, *profiles):
    listed = profiles or (profile(groups=("engineers",)), elevated(groups=("platform-admins",)))
    return platform(
        [service("payments/api")], clusters=[on or on_vault()], profiles={item.name: item for item in listed}
    )


def test_the_name_of_a_role_says_whose_request_it_is():
    name = vault_elevation.role_name(ENTITY, "g-x7k2m9qa")
    assert name == f"req_{ENTITY}_g-x7k2m9qa"
    assert vault_elevation.request_of(name) == "g-x7k2m9qa"
    for other in (
        "developer",
        "req_",
        "req_by-hand",
        f"req_{ENTITY}_",
        f"req_{ENTITY}_x",
        f"{ENTITY}_g-1",
        "req_x_g-1",
    ):
        assert vault_elevation.request_of(other) == ""
    assert vault_elevation.is_one("req_by-hand")
    assert not vault_elevation.is_one("developer.payments")
    for entity, request in (("", "g-1"), ("../x", "g-1"), (ENTITY, "x"), (ENTITY, "g-1/../y"), (f"{ENTITY}_", "g-1")):
        with pytest.raises(ValueError, match="make no role"):
            vault_elevation.role_name(entity, request)


def test_a_role_is_sent_as_text_and_compared_as_vault_gives_it_back():
    body = vault_elevation.role_body("g-1", settings(), ACCESSOR)
    assert all(isinstance(value, str) and value for value in body.values())
    assert (body["organization"], body["max_ttl"]) == ("ph:elev:g-1", "3600s")
    assert body["allowed_domains"] == f"{{{{identity.entity.aliases.{ACCESSOR}.name}}}}"
    held = {name: {"true": True, "false": False}.get(value, value) for name, value in body.items()}
    held |= {"organization": ["ph:elev:g-1"], "max_ttl": 3600, "key_bits": 256, "not_before_duration": 300}
    assert vault_elevation.same(held, body)
    assert not vault_elevation.same(held | {"server_flag": True}, body)
    assert not vault_elevation.same(held | {"organization": ["ph:elev:g-1", "system:masters"]}, body)
    assert not vault_elevation.same({}, body)


def test_every_field_is_pinned_and_what_is_unsafe_by_itself_is_needed():
    rule = vault_elevation.elevator_rules("pki-dev", settings(), ACCESSOR)[0]
    assert rule.path == "pki-dev/roles/req_*"
    assert "read" not in rule.capabilities
    assert rule.allowed_parameters is not None
    for name, value in vault_elevation.role_body("g-1", settings(), ACCESSOR).items():
        if name != "organization":
            assert rule.allowed_parameters[name] == (value,)
            assert rule.denied_parameters[name] == ("",)
    assert rule.allowed_parameters["organization"] == ("ph:elev:*",)
    assert set(rule.denied_parameters["organization"]) == {"", "*,*"}
    assert {"allow_localhost", "server_flag", "use_csr_common_name", "cn_validations"} <= set(rule.required_parameters)
    assert set(rule.required_parameters) <= set(rule.allowed_parameters)


def test_the_documents_of_a_cluster_whose_requests_vault_signs():
    given = declared()
    found = {item.path for item in vault.documents(given, given.clusters["dev"], settings())}
    assert {
        "vault/sys/auth/approle-dev.json",
        "vault/auth/approle-dev/role/elevator.json",
        "vault/sys/policies/acl/ph.dev.elevator.json",
        "vault/sys/policies/acl/ph.dev.profile.requests_.json",
    } <= found
    mapped = vault.engineers(given, given.clusters["dev"], settings())
    assert "ph.dev.profile.requests_" in mapped["engineers"]
    assert mapped["platform-admins"] == ("ph.dev.profile.requests_",)
    _, own = vault.policies_of_requests(given, given.clusters["dev"], settings())
    assert own.rules[0].path == "pki-dev/sign/req_{{identity.entity.id}}_*"
    assert own.rules[0].denied_parameters == {"exclude_cn_from_sans": ("",)}


def test_until_the_accessor_is_known_the_worker_may_write_nothing():
    given = declared()
    worker, _ = vault.policies_of_requests(given, given.clusters["dev"], settings(""))
    assert worker.rules == ()


@pytest.mark.parametrize(
    "given",
    [
        declared(on_vault(elevation=Elevation())),
        declared(on_vault(authority=Authority("embedded", "pki-dev", "dev access"))),
        declared(None, profile(groups=("engineers",))),
    ],
)
def test_where_vault_signs_for_no_request_nothing_is_there(given):
    assert vault.policies_of_requests(given, given.clusters["dev"], settings()) == ()
    paths = [item.path for item in vault.documents(given, given.clusters["dev"], settings())]
    assert not [path for path in paths if "approle" in path or "requests_" in path]


def test_a_policy_of_engineers_that_is_too_wide_is_too_wide_for_requests_as_well():
    text = bundle_content().files["secrets/vault/policies/engineer.yaml"].text
    wide = text.replace("allowedParameters: {csr: [],", "allowedParameters: {not_after: [], csr: [],")
    assert wide != text
    changed = bundle_content({"secrets/vault/policies/engineer.yaml": wide})
    only = elevated(groups=("platform-admins",))
    found = derive(inputs(on=on_vault(), profiles={only.name: only}, content=changed)).problems
    assert "access/unsafe-vault-policy" in {problem.code for problem in found}
