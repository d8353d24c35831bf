import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from support.access_values import NOW, authority, key, template

from pilothouse.access import certificates
from pilothouse.access.certificates import Issued
from pilothouse.access.csr import parse
from pilothouse.clients.portal import Signed
from pilothouse.files.wallet import Credential, Login, Wallet, default_root
from pilothouse.problems import Denied, Invalid, Unavailable
from pilothouse.workflows import credential as work


@pytest.fixture
def wallet(tmp_path):
    return Wallet(tmp_path / "pilothouse")


def credential(**fields):
    values = {
        "cluster": "dev", "profile": "developer", "user": "alice", "key": "KEY", "certificate": "CERT",
        "authority": "CA", "serial": "1", "not_after": NOW + timedelta(hours=1), "server": "https://api.example:6443",
    }  # fmt: skip
    return Credential(**{**values, **fields})


def test_where_it_lies(monkeypatch, tmp_path):
    assert default_root({"XDG_CONFIG_HOME": "/x"}) == Path("/x/pilothouse")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root({"XDG_CONFIG_HOME": "relative"}) == tmp_path / ".config/pilothouse"


def test_a_session_and_credentials_come_back(wallet):
    login = Login("https://p.example", "token", "alice", datetime(2026, 11, 21, 20, tzinfo=UTC))
    assert wallet.login() is None
    wallet.keep_login(login)
    assert wallet.login() == login
    wallet.forget_login()
    wallet.forget_login()
    assert wallet.login() is None
    one, other = credential(), credential(cluster="prod", serial="2", grant_id="g-1")
    wallet.keep(one)
    wallet.keep(other)
    assert wallet.credentials() == (one, other)
    assert wallet.forget("g-1") == (other,)
    assert wallet.credentials() == (one,)
    assert wallet.credential("prod", "developer") is None


def test_modes_are_narrow_even_where_a_file_was_wide(wallet):
    path = wallet.keep(credential())
    path.chmod(0o644)
    wallet.keep(credential(serial="2"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden"])
def test_names_cannot_leave_the_folder(wallet, name):
    with pytest.raises(Invalid):
        wallet.credential(name, "developer")


@pytest.mark.parametrize("text", ["nonsense", "[]", "{}"])
def test_damaged_files_are_said_to_be(wallet, text):
    wallet.keep(credential())
    wallet.keep_login(Login("s", "t", "u", NOW))
    for path in wallet.root.rglob("*.json"):
        path.write_text(text)
    with pytest.raises(Invalid, match="damaged"):
        wallet.login()
    with pytest.raises(Invalid, match="damaged"):
        wallet.credentials()


def test_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        Wallet(tmp_path / "file/pilothouse").keep(credential())
    with pytest.raises(Unavailable, match="cannot be used"):
        Wallet(tmp_path / "file").login()
    wallet = Wallet(tmp_path / "pilothouse")
    (tmp_path / "pilothouse").mkdir()
    (tmp_path / "pilothouse/lock").mkdir()
    with pytest.raises(Unavailable, match="cannot be used"), wallet.locked():
        pass
    with pytest.raises(Unavailable, match="cannot be used"):
        wallet.write_kubeconfig(tmp_path / "missing/config", credential().context, ("p",), "v1")


def test_a_kubeconfig_of_ones_own_keeps_what_it_holds(wallet, tmp_path):
    import yaml

    path = tmp_path / "config"
    path.write_text("clusters: [{name: mine, cluster: {server: x}}]\nusers:\ncontexts: []\npreferences: {a: 1}\n")
    wallet.write_kubeconfig(path, credential().context, ("p", "access"), "v1")
    held = yaml.safe_load(path.read_text())
    assert [item["name"] for item in held["clusters"]] == ["mine", "dev"]
    assert held["preferences"] == {"a": 1}
    for text in ("a: [", "[]", "clusters: 3", "[" * 100_000, "a: !!timestamp 2026-13-45"):
        path.write_text(text)
        with pytest.raises(Invalid, match="kubeconfig"):
            wallet.write_kubeconfig(path, credential().context, ("p",), "v1")
        assert path.read_text() == text


# ---------------------------------------------------------------- getting and renewing


class Portal:
    """Signs with the test's authority; counts."""

    def __init__(self, other_key=False):
        self.signed, self.other_key = 0, other_key

    def certificate(self, profile, cluster, request, seconds=0, team="", vault_token=""):
        self.signed += 1
        public = key("other").public_key() if self.other_key else parse(request).public_key
        leaf = certificates.sign(template(public_key=public, serial=self.signed), *authority())
        return Signed(
            Issued(
                cluster,
                "alice",
                profile,
                ("g",),
                str(self.signed),
                "f",
                leaf.not_valid_after_utc,
                certificates.pem(leaf),
                "CA",
            ),
            "https://api.example",
        )

    claim = certificate


def test_a_certificate_for_another_key_is_not_kept(wallet):
    with pytest.raises(Invalid, match="another key"):
        work.current(wallet, "dev", "developer", NOW, lambda: Portal(other_key=True))
    assert wallet.credentials() == ()


def test_what_is_no_certificate_is_not_kept(wallet):
    def nonsense(_csr):
        return Signed(Issued("dev", "alice", "developer", (), "1", "f", NOW, "nonsense", "CA"), "")

    with pytest.raises(Invalid, match="no certificate"):
        work.obtain(wallet, "alice", nonsense)


def test_two_kubectl_at_once_make_one_certificate(wallet):
    portal = Portal()
    found = []

    def ask():
        found.append(work.current(wallet, "dev", "developer", NOW, lambda: portal).serial)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (portal.signed, set(found)) == (1, {"1"})


def test_the_answer_to_kubectl_holds_key_and_certificate(wallet):
    found = work.current(wallet, "dev", "developer", NOW, Portal)
    answer = work.exec_credential(found, "")
    assert answer["status"]["clientKeyData"] == found.key
    assert answer["status"]["expirationTimestamp"] == "2026-11-22T04:00:00Z"
    leaf = x509.load_pem_x509_certificate(found.certificate.encode())
    made, request = work.make_key("alice")
    assert "PRIVATE KEY" in made
    assert parse(request).public_key != leaf.public_key()


def test_a_refusal_of_the_portal_keeps_its_hint(wallet):
    class Refusing:
        def certificate(self, *_, **__):
            raise Denied("not yours", "ask the team")

    with pytest.raises(Denied) as caught:
        work.current(wallet, "dev", "developer", NOW, Refusing)
    assert caught.value.hint == "ask the team"
