import base64
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from support import break_glass
from support.access_machines import Machine, access_site
from support.access_values import key
from support.access_world import declare_api_ca

from pilothouse.access import certificates
from pilothouse.access.ledger import Head
from pilothouse.cli import access as commands
from pilothouse.problems import Conflict, Denied, Invalid
from pilothouse.store import ledger, machines


@pytest.fixture
def site(tmp_path):
    with access_site(tmp_path) as made:
        yield made


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_day_of_an_engineer(site, tmp_path):
    machine, world, _ = site
    alice = machine("alice")
    said = alice.run("cert", "developer", "--cluster", "dev")
    assert "alice may act as developer on dev for 1" in said
    config = alice.home / "pilothouse/kubeconfig/dev.yaml"
    assert f"export KUBECONFIG={config}" in said
    for path in (
        config,
        alice.home / "pilothouse/session.json",
        alice.home / "pilothouse/credentials/dev.developer.json",
    ):
        assert mode(path) == 0o600
    assert mode(alice.home / "pilothouse") == 0o700
    held = yaml.safe_load(config.read_text())
    assert held["current-context"] == "developer@dev"
    assert held["clusters"][0]["cluster"] == {"server": "https://api.dev.bank.example:6443"}
    plugin = held["users"][0]["user"]["exec"]
    assert (plugin["apiVersion"], plugin["interactiveMode"]) == ("client.authentication.k8s.io/v1", "Never")
    assert plugin["args"][-6:] == ["access", "credential", "--cluster", "dev", "--profile", "developer"]
    assert "PRIVATE" not in config.read_text()
    with pytest.raises(Invalid, match="no certificate in this file") as refused:
        alice.run("inspect", str(config))
    assert "without a file, `pilothouse access inspect` shows those you hold" in refused.value.hint

    answer = json.loads(alice.run("credential", "--cluster", "dev", "--profile", "developer"))
    leaf = x509.load_pem_x509_certificate(answer["status"]["clientCertificateData"].encode())
    dev = x509.load_pem_x509_certificate((world.data / "authorities/dev.crt").read_bytes())
    assert certificates.is_signed_by(leaf, dev)
    assert "PRIVATE KEY" in answer["status"]["clientKeyData"]
    assert answer["status"]["expirationTimestamp"].endswith("Z")

    assert "Group `ph:developer:payments`: the profile developer in the namespaces of team payments." in alice.run(
        "inspect"
    )
    status = alice.json("status")
    assert [item["profile"] for item in status["credentials"]] == ["developer"]
    assert "in 16 h" in alice.run("status")


def test_the_key_never_leaves_the_machine(site):
    machine, world, _ = site
    alice = machine("alice")
    alice.run("cert", "developer", "--cluster", "dev")
    private = alice.wallet.credential("dev", "developer").key.splitlines()[1]
    for path in world.data.rglob("*"):
        if path.is_file():
            assert private.encode() not in path.read_bytes()


def test_the_authority_of_the_api_server_is_in_the_kubeconfig(site, tmp_path):
    machine, world, _ = site
    file = tmp_path / "api-ca.crt"
    declare_api_ca(world.platform, file)
    alice = machine("alice")
    asked = ("cert", "developer", "--cluster", "dev")

    def cluster():
        return yaml.safe_load((alice.home / "pilothouse/kubeconfig/dev.yaml").read_text())["clusters"][0]["cluster"]

    said = alice.run(*asked)
    assert f"Note: the authority of dev's API server is not known to the portal: {file} cannot be read" in said
    assert "give it with --api-ca FILE" in said
    assert set(cluster()) == {"server"}
    known = (world.data / "authorities/dev.crt").read_bytes()
    file.write_bytes(known)
    shown = alice.json(*asked)
    assert shown["note"] == ""
    assert base64.b64decode(cluster()["certificate-authority-data"]) == known
    alice.run(*asked, "--api-ca", "mine.pem")
    assert set(cluster()) == {"server", "certificate-authority"}
    # Who gives a file has no use for the note.
    file.unlink()
    assert alice.json(*asked, "--api-ca", "mine.pem")["note"] == ""
    assert alice.json(*asked)["note"]


def test_profiles_of_one_cluster_share_a_kubeconfig(site):
    machine, _, _ = site
    olga = machine("olga")
    olga.run("cert", "developer", "--cluster", "dev", "--exec-version", "v1beta1")
    shown = olga.json(
        "cert",
        "developer",
        "--cluster",
        "dev",
        "--for",
        "1h",
        "--api-server",
        "https://here:6443",
        "--api-ca",
        "ca.pem",
    )
    config = yaml.safe_load(Path(shown["kubeconfig"]).read_text())
    assert len(config["users"]) == len(config["contexts"]) == 1
    assert config["clusters"][0]["cluster"]["server"] == "https://here:6443"
    assert config["clusters"][0]["cluster"]["certificate-authority"].endswith("/ca.pem")
    own = olga.home / "mine.yaml"
    assert olga.json("cert", "developer", "--cluster", "dev", "--kubeconfig", str(own))["kubeconfig"] == str(own)
    assert mode(own) == 0o600


def test_an_elevation_between_two_people(site):
    machine, world, _ = site
    olga, pat = machine("olga"), machine("pat")
    asked = olga.json("elevate", "cluster-admin", "--cluster", "dev", "--reason", "replace a node", "--for", "45m")
    assert (asked["state"], asked["seconds"]) == ("requested", 2700)
    with pytest.raises(Denied, match="own"):
        olga.run("approve", asked["id"])
    with pytest.raises(Conflict, match="is requested, not approved"):
        olga.run("claim", asked["id"])
    assert asked["id"] in pat.run("status")
    assert "is approved" in pat.run("approve", asked["id"], "--comment", "go")
    said = olga.run("claim", asked["id"])
    assert "olga may act as cluster-admin on dev for 4" in said
    assert "dev.cluster-admin.yaml" in said
    assert f"pilothouse access give-back {asked['id']}" in said
    back = olga.json("give-back", asked["id"])
    assert back["deleted"] == ["cluster-admin@dev"]
    assert olga.wallet.credential("dev", "cluster-admin") is None
    kinds = [entry.entry.kind for entry in ledger.everything(world.store)]
    assert kinds[-2:] == ["elevation.given-back", "certificate.given-back"]
    listed = pat.json("ledger", "--kind", "elevation")
    assert [entry["kind"] for entry in listed["items"]] == [
        "elevation.given-back",
        "elevation.approved",
        "elevation.requested",
    ]
    assert "elevation.approved" in pat.run("ledger")
    other = olga.json("elevate", "cluster-admin", "--cluster", "dev", "--reason", "and another", "--ticket", "OPS-7")
    assert "OPS-7: and another" in pat.run("status")
    requested = [item.entry for item in ledger.everything(world.store) if item.entry.kind == "elevation.requested"]
    assert [entry.data.get("ticket") for entry in requested] == [None, "OPS-7"]
    assert "is denied" in pat.run("deny", other["id"], "--comment", "not now")
    assert "An approver runs: pilothouse access approve" in olga.run(
        "elevate", "cluster-admin", "--cluster", "dev", "--reason", "the third one"
    )


def test_a_certificate_is_given_back_by_its_serial(site):
    machine, _, _ = site
    alice = machine("alice")
    serial = alice.json("cert", "developer", "--cluster", "prod")["serial"]
    said = alice.run("give-back", serial)
    assert "Deleted key and certificate of developer on prod." in said
    again = alice.json("cert", "developer", "--cluster", "prod")["serial"]
    alice.wallet.forget(again)
    assert "Kubernetes knows no revocation" in alice.run("give-back", again)


def test_what_may_i_have(site):
    machine, _, _ = site
    said = machine("alice").run("profiles")
    assert "developer  Developer (yours)" in said
    assert "not yours: it is for members of platform-admins" in said
    assert "dev: in namespace payments" in said


# ---------------------------------------------------------------- the exec plugin


def test_an_ended_certificate_is_renewed_while_the_session_lives(site, monkeypatch):
    machine, _, clock = site
    alice = machine("alice")
    alice.run("cert", "developer", "--cluster", "dev", "--for", "10m")
    first = alice.wallet.credential("dev", "developer")
    moment = clock.moment + timedelta(minutes=9, seconds=30)
    clock.moment = moment
    monkeypatch.setattr(commands, "now", lambda: moment)
    alice.run("credential", "--cluster", "dev", "--profile", "developer")
    second = alice.wallet.credential("dev", "developer")
    assert second.serial != first.serial
    assert second.key != first.key
    alice.run("credential", "--cluster", "dev", "--profile", "developer")
    assert alice.wallet.credential("dev", "developer").serial == second.serial


def test_without_session_or_certificate_the_plugin_says_what_to_run(site, monkeypatch):
    machine, _, clock = site
    alice = machine("alice")
    with pytest.raises(Denied, match="members of on-call"):
        alice.run("credential", "--cluster", "dev", "--profile", "on-call")
    alice.run("logout")
    with pytest.raises(Denied, match="no living certificate") as caught:
        alice.run("credential", "--cluster", "dev", "--profile", "developer")
    assert "pilothouse access login && pilothouse access cert developer --cluster dev" in caught.value.hint
    assert clock.moment


def test_an_elevated_certificate_is_not_renewed(site, monkeypatch):
    machine, _, clock = site
    olga, pat = machine("olga"), machine("pat")
    id = olga.json("elevate", "cluster-admin", "--cluster", "dev", "--reason", "replace a node")["id"]
    pat.run("approve", id)
    olga.run("claim", id)
    monkeypatch.setattr(commands, "now", lambda: clock.moment + timedelta(hours=1))
    with pytest.raises(Denied, match="has ended") as caught:
        olga.run("credential", "--cluster", "dev", "--profile", "cluster-admin")
    assert "pilothouse access elevate cluster-admin" in caught.value.hint


def test_old_kubectl_is_answered_in_its_version(site):
    machine, _, _ = site
    alice = machine("alice")
    alice.run("cert", "developer", "--cluster", "dev")
    arguments = ("credential", "--cluster", "dev", "--profile", "developer")
    for version in ("v1", "v1beta1"):
        asked = {"apiVersion": f"client.authentication.k8s.io/{version}", "kind": "ExecCredential"}
        alice.environment["KUBERNETES_EXEC_INFO"] = json.dumps(asked)
        assert json.loads(alice.run(*arguments))["apiVersion"] == asked["apiVersion"]
    for bad in ("nonsense", "[]", '{"apiVersion": "client.authentication.k8s.io/v1alpha1"}'):
        alice.environment["KUBERNETES_EXEC_INFO"] = bad
        with pytest.raises(Invalid):
            alice.run(*arguments)


# ---------------------------------------------------------------- the session


def test_a_wrong_password_and_a_wrong_address(site, tmp_path):
    machine, _, _ = site
    alice = machine("alice")
    with pytest.raises(Denied, match="the name or the password is wrong"):
        alice.run("login", "--user", "alice", stdin="not this one\n")
    assert alice.json("status")["session"]["user"] == "alice"
    with pytest.raises(Invalid, match="not encrypted"):
        alice.run("login", "--server", "http://pilothouse.bank.example", stdin="alice\nsecret\n")
    stranger = Machine(tmp_path / "nobody", "")
    with pytest.raises(Invalid, match="which portal"):
        stranger.run("login")
    with pytest.raises(Denied, match="not logged in"):
        stranger.run("profiles")
    assert "not logged in" in stranger.run("status")


def test_an_ended_session(site, monkeypatch):
    machine, _, clock = site
    alice = machine("alice")
    monkeypatch.setattr(commands, "now", lambda: clock.moment + timedelta(hours=17))
    with pytest.raises(Denied, match=r"your session at .* has ended"):
        alice.run("profiles")
    with pytest.raises(Denied):
        alice.run("logout")
    assert alice.wallet.login() is None


def test_a_duration_that_is_none(site):
    machine, _, _ = site
    assert machine("alice").run("cert", "developer", "--cluster", "dev", "--for", "soon", code=2) == ""


def test_without_a_declared_server_there_is_no_kubeconfig(site):
    machine, world, _ = site
    text = (world.platform / "platform.yaml").read_text()
    line = '  servers: {kubernetes: {url: "https://api.dev.bank.example:6443"}}\n'
    assert line in text
    (world.platform / "platform.yaml").write_text(text.replace(line, ""))
    alice = machine("alice")
    assert "No address of the API server is declared" in alice.run("cert", "developer", "--cluster", "dev")
    assert not (alice.home / "pilothouse/kubeconfig").exists()


# ---------------------------------------------------------------- offline


def test_inspect_reads_files_and_stdin(tmp_path):
    from support.access_values import authority, template

    machine = Machine(tmp_path, "")
    pem = certificates.pem(certificates.sign(template(), *authority()))
    (tmp_path / "cert.pem").write_text(pem)
    assert "user `alice`" in machine.run("inspect", str(tmp_path / "cert.pem"))
    assert machine.json("inspect", "-", stdin=pem)[0]["serial"] == "4711"
    assert "Odd: It is an authority" in machine.run("inspect", "-", stdin=certificates.pem(authority()[0]))
    with pytest.raises(Invalid, match="no file"):
        machine.run("inspect", str(tmp_path / "none.pem"))
    (tmp_path / "cert.der").write_bytes(b"\x30\x82\xff\xfe")
    with pytest.raises(Invalid, match="cannot be read as text"):
        machine.run("inspect", str(tmp_path / "cert.der"))
    with pytest.raises(Invalid, match="you hold no certificate"):
        machine.run("inspect")


@pytest.fixture
def laptop(tmp_path):
    from support.access_world import write_platform

    machine = Machine(tmp_path, "")
    machine.environment["PILOTHOUSE_PLATFORM"] = str(write_platform(tmp_path / "platform"))
    return machine


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (("get", "pods", "-n", "payments", "--profile", "developer"), True),
        (("get", "pods", "-n", "payments", "--profile", "developer", "--team", "infra"), False),
        (("get", "secrets", "-n", "payments", "--profile", "developer"), False),
        (("get", "pods", "-n", "kube-system", "--profile", "developer"), False),
        (("create", "pods/portforward", "-n", "payments", "--profile", "developer"), True),
        (("delete", "po/web-1", "-n", "payments", "--profile", "on-call"), True),
        (("get", "/livez", "--profile", "on-call"), True),
        (("patch", "deploy", "-n", "tools", "--as-group", "ph:release-manager:infra"), True),
        (("get", "pods", "--as", "mallory"), False),
        (("delete", "nodes", "--as", "root", "--as-group", "system:masters"), True),
    ],
)
def test_can_i_under_the_rendered_rbac(laptop, arguments, allowed):
    found = laptop.json("can-i", *arguments, "--cluster", "dev", code=0 if allowed else 1)
    assert found["allowed"] is allowed


def test_can_i_names_the_binding_and_the_rule(laptop):
    said = laptop.run("can-i", "get", "pods/log", "-n", "payments", "--profile", "developer", "-c", "dev")
    assert said.startswith(
        "yes: ph:developer:payments to get pods/log in payments on dev: RoleBinding payments/ph:developer:payments"
    )
    assert "→ ClusterRole ph:developer: get, list, watch on pods, pods/log" in said
    said = laptop.run("can-i", "get", "nodes", "--profile", "developer", "-c", "dev", code=1)
    assert said.startswith("no: ")


def test_can_i_as_the_holder_of_a_certificate(laptop):
    from support.access_values import authority, template

    (laptop.home / "cert.pem").write_text(certificates.pem(certificates.sign(template(), *authority())))
    arguments = ("can-i", "get", "pods", "-n", "payments", "-c", "dev", "--certificate", str(laptop.home / "cert.pem"))
    assert laptop.json(*arguments)["user"] == "alice"


def test_can_i_needs_to_know_who_and_where(laptop):
    for arguments, message in (
        (("get", "pods"), "0 living certificates"),
        (("get", "pods", "--profile", "developer"), "which cluster"),
        (("get", "pods", "--profile", "developr", "-c", "dev"), "no profile `developr`"),
        (("get", "pods", "--profile", "developer", "--team", "x", "-c", "dev"), "no team `x`"),
        (("get", "widgets", "--as", "x"), "group of `widgets`"),
        (("get", "pods", "--as", "x", "--profile", "y"), "exclude each other"),
    ):
        with pytest.raises(Invalid, match=message):
            laptop.run("can-i", *arguments)


def test_can_i_uses_the_one_certificate_that_is_kept(laptop):
    from support.access_values import authority, template

    from pilothouse.files.wallet import Credential

    moment = datetime.now(UTC)
    leaf = certificates.sign(template(now=moment, not_after=moment + timedelta(hours=1)), *authority())
    laptop.wallet.keep(
        Credential("dev", "developer", "alice", "key", certificates.pem(leaf), "ca", "1", moment + timedelta(hours=1))
    )
    assert laptop.json("can-i", "get", "pods", "-n", "payments")["cluster"] == "dev"


# ---------------------------------------------------------------- verify-ledger


def test_verify_ledger_finds_what_was_changed(tmp_path):
    from support.access_values import csr
    from support.access_world import make_world

    from pilothouse.workflows.issuance import Ask

    world = make_world(tmp_path)
    machine = Machine(tmp_path, "")
    arguments = ("verify-ledger", "--data", str(world.data))
    assert machine.json(*arguments) == {"whole": True, "entries": 0, "head": str(Head()), "problems": []}
    with world.authorities() as authorities:
        issuance = world.issuance(authorities, exported=authorities.keep_head)
        for name in ("alice", "bob"):
            issuance.issue(Ask(world.token(name), csr(key(name)), "dev", "developer"))
    said = machine.run(*arguments)
    assert "The chain is whole: 4 entries." in said
    head = ledger.head(world.store)
    assert f"Head: {head}" in said

    with world.store.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER ledger_never_changes")
        connection.exec_driver_sql("DROP TRIGGER ledger_never_removes")
        connection.exec_driver_sql("UPDATE ledger SET actor = 'mallory' WHERE sequence = 2")
    broken = machine.json(*arguments, code=1)
    assert [problem["code"] for problem in broken["problems"]] == ["access/ledger-broken"]
    with world.store.write() as connection:
        connection.exec_driver_sql("UPDATE ledger SET actor = 'alice' WHERE sequence = 2")
        connection.exec_driver_sql("DELETE FROM ledger WHERE sequence = 4")
    cut = machine.json(*arguments, code=1)
    assert [problem["code"] for problem in cut["problems"]] == ["access/ledger-truncated"]
    (world.data / "signer/head").unlink()
    assert machine.json(*arguments)["whole"] is True
    assert machine.json(*arguments, "--head", str(head), code=1)["whole"] is False
    with pytest.raises(Invalid, match="no head"):
        machine.run(*arguments, "--head", "x")


def test_the_head_of_another_user_is_no_failure(tmp_path, monkeypatch):
    from support.access_world import make_world

    world = make_world(tmp_path)
    (world.data / "signer").mkdir()
    (world.data / "signer/head").write_text(str(Head()))
    real = Path.read_text

    def guarded(self, *arguments, **more):
        if self.name == "head":
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **more)

    monkeypatch.setattr(Path, "read_text", guarded)
    assert Machine(tmp_path, "").json("verify-ledger", "--data", str(world.data))["whole"] is True


def test_help_loads_nothing_heavy():
    import subprocess
    import sys

    code = (
        "import sys; from pilothouse.cli import access; "
        "heavy = [m for m in ('cryptography', 'pydantic', 'sqlalchemy', 'flask', 'yaml') if m in sys.modules]; "
        "print(heavy)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert result.stdout.strip() == "[]"


def test_can_i_asks_for_a_request_where_the_worker_binds_each(laptop, tmp_path):
    from support.elevation_world import declare

    declare(tmp_path / "platform", "https://api.dev.bank.example:6443", tmp_path / "token")
    said = laptop.run("can-i", "delete", "nodes", "--profile", "cluster-admin", "--cluster", "dev", code=1)
    assert said.startswith("no: ph:elev:<request> to delete nodes on dev: no binding")
    assert "not certain, since ClusterRole cluster-admin was not given" in said
    found = laptop.json("can-i", "delete", "po", "-n", "payments", "--profile", "repair", "--cluster", "dev")
    assert found["by"][0]["binding"] == "RoleBinding payments/ph:elev:<request>"
    laptop.json("can-i", "delete", "po", "-n", "kube-system", "--profile", "repair", "--cluster", "dev", code=1)
    one = ("--team", "infra", "--cluster", "dev")
    laptop.json("can-i", "delete", "po", "-n", "payments", "--profile", "repair", *one, code=1)


def test_status_says_how_the_binding_of_a_request_stands(site):
    from pilothouse.store import elevations

    machine, world, _ = site
    olga, pat = machine("olga"), machine("pat")
    id = olga.json("elevate", "cluster-admin", "--cluster", "dev", "--reason", "replace a node")["id"]
    pat.run("approve", id)
    olga.run("claim", id)
    with world.store.write() as connection:
        elevations.want(connection, id, "dev", "1", ())
    assert f"{id}: its binding on dev is about to be made." in olga.run("status")
    elevations.failed(world.store, elevations.get(world.store, id), "dev is away")
    assert "could not be made, which is tried again: dev is away" in olga.run("status")
    assert "It is recorded as given back, and its binding on dev still stands" in olga.run("give-back", id)
    assert olga.json("status")["requests"][0]["binding"] == "failed"


def test_break_glass_is_opened_by_two_and_reviewed_by_a_third(site):
    machine, world, _ = site
    break_glass.declare(world.platform, "olga", "pat")
    olga, pat, alice = machine("olga"), machine("pat"), machine("alice")
    assert "No break-glass is open" in alice.run("break-glass")
    asked = olga.run("elevate", "glass", "--cluster", "dev", "--reason", "directory is down")
    id = asked.split()[1]
    assert f"Another of the people named in the profile runs: pilothouse access approve {id}" in asked
    pat.run("approve", id)
    olga.run("claim", id)
    assert alice.json("break-glass")["open"][0]["id"] == id
    assert id in alice.run("break-glass")
    with pytest.raises(Conflict, match="nothing to review"):
        alice.run("review", id, "--text", break_glass.REVIEW)
    olga.run("give-back", id)
    with pytest.raises(Denied, match="opened themselves"):
        pat.run("review", id, "--text", break_glass.REVIEW)
    said = alice.run("review", id, "--text", break_glass.REVIEW)
    assert said == f"Break-glass {id} of olga and pat is reviewed by alice.\n"
    assert alice.json("break-glass") == {"open": [], "waiting": []}


def test_a_machine_gets_a_certificate_with_a_token_file(site, tmp_path):
    machine, world, _ = site
    server = machine("alice").server
    token = machines.add(world.store, "ci", ("developer",), "payments", timedelta(days=30), world.clock())
    file = tmp_path / "token"
    file.write_text(token + "\n")
    file.chmod(0o600)
    (tmp_path / "ci").mkdir()
    pipeline = Machine(tmp_path / "ci", server)
    with pytest.raises(Invalid, match="which portal"):
        pipeline.run("cert", "developer", "--cluster", "dev", "--token-file", str(file))
    said = pipeline.run("cert", "developer", "--cluster", "dev", "--token-file", str(file), "--server", server)
    assert "ci may act as developer on dev" in said
    assert pipeline.wallet.credential("dev", "developer").user == "ci"
    assert token not in "".join(p.read_text() for p in (tmp_path / "ci").rglob("*") if p.is_file())
    with pytest.raises(Denied, match="not on the list of machine ci"):
        pipeline.run("cert", "on-call", "--cluster", "dev", "--token-file", str(file), "--server", server)
