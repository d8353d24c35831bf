"""`pilothouse access kubeconfig`."""

import json
import stat

import pytest
import yaml
from support.access_machines import access_site

from pilothouse.problems import Invalid


@pytest.fixture
def site(tmp_path):
    with access_site(tmp_path) as made:
        yield made


def test_contexts_of_all_that_is_mine_before_there_is_a_certificate(site, tmp_path):
    machine, _, _ = site
    olga = machine("olga")
    rows = olga.json("kubeconfig")
    assert "developer@dev" in {row["context"] for row in rows}
    assert not [row for row in rows if row["profile"] == "cluster-admin"], "an elevated one is asked for each time"
    dev = olga.home / "pilothouse/kubeconfig/dev.yaml"
    assert stat.S_IMODE(dev.stat().st_mode) == 0o600
    held = yaml.safe_load(dev.read_text())
    assert held["clusters"][0]["cluster"] == {"server": "https://api.dev.bank.example:6443"}
    assert olga.json("status")["credentials"] == []
    # kubectl gets one when it uses a context.
    context = next(item for item in held["users"] if item["name"] == "developer@dev")
    answer = json.loads(olga.run(*context["user"]["exec"]["args"][-5:]))
    assert answer["kind"] == "ExecCredential"
    assert [item["profile"] for item in olga.json("status")["credentials"]] == ["developer"]

    own = tmp_path / "own.yaml"
    own.write_text("clusters: []\nusers: []\ncontexts: []\ncurrent-context: mine\n")
    said = olga.run("kubeconfig", "--kubeconfig", str(own), "--cluster", "dev")
    assert f"export KUBECONFIG={own}" in said
    held = yaml.safe_load(own.read_text())
    assert held["current-context"] == "mine"
    assert {item["name"] for item in held["clusters"]} == {"dev"}
    with pytest.raises(Invalid, match="holds on a cluster `def`") as refused:
        olga.run("kubeconfig", "-c", "def")
    assert refused.value.hint


def test_what_no_address_is_declared_for_has_no_context(site):
    machine, world, _ = site
    path = world.platform / "platform.yaml"
    declared = '  servers: {kubernetes: {url: "https://api.dev.bank.example:6443"}}\n'
    text = path.read_text()
    assert declared in text
    path.write_text(text.replace(declared, ""))
    alice = machine("alice")
    said = alice.run("kubeconfig")
    assert "dev is left out: its API server's address is not declared" in said
    assert not (alice.home / "pilothouse/kubeconfig/dev.yaml").exists()
