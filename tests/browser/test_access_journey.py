"""An engineer needs a certificate: the daily one from the command line, an elevated one with somebody's approval."""

from __future__ import annotations

import csv
import io
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from support.browser import People, expect
from support.demo import Laptop
from support.real_bank import Site

REASON = "The queue of payments-7f is stuck: look at its threads from inside"


def authority(people: People, cluster: str) -> x509.Certificate:
    """The public certificate of a cluster's authority, as the portal hands it out."""
    answer = people("alice").request.get(f"/access/authorities/{cluster}.crt")
    assert answer.status == 200
    return x509.load_pem_x509_certificate(answer.body())


def test_certificate_for_the_day(site: Site) -> None:
    people, laptop = site.people, site.laptop
    page = people("alice")
    page.goto("/")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Access").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Access")
    developer = page.get_by_role("region", name="Developer")
    expect(developer).to_contain_text("see pods, logs")
    expect(developer).to_contain_text("At once, for 16 h")
    admin = page.get_by_role("region", name="Cluster admin")
    expect(admin).to_contain_text("read every Secret")
    expect(admin).to_contain_text("it is for members of platform-admins")
    expect(admin.get_by_role("link", name="Ask for it")).to_have_count(0)

    developer.get_by_role("link", name="Get a certificate").click()
    command = page.locator("[data-copy*='access cert developer']").get_attribute("data-copy")
    assert command is not None
    login, obtain = (part.split() for part in command.split(" && "))
    assert login[:3] == ["pilothouse", "access", "login"]
    laptop.start(*login, "--user", "alice", stdin=f"{laptop.demo.passwords['alice']}\n")
    said = laptop.start(*obtain).stdout
    kubeconfig = laptop.home / ".config" / "pilothouse" / "kubeconfig" / "dev.yaml"
    assert f"export KUBECONFIG={kubeconfig}" in said
    assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600

    page.goto("/access/")
    row = page.get_by_role("row").filter(has_text="developer")
    expect(row).to_contain_text("dev")
    expect(row.locator("time[data-countdown]")).to_have_text(re.compile(r"^in 15 h 5\d min$"))
    # The countdown is right without JavaScript, and runs with it.
    plain = people("alice", java_script_enabled=False)
    plain.goto("/")
    plain_text = plain.get_by_role("region", name="Access", exact=True).get_by_role("listitem")
    expect(plain_text.filter(has_text="developer on dev")).to_have_text(re.compile(r"ends in 15 h 5\d min$"))

    said = laptop.run("access", "inspect").stdout
    assert "alice" in said
    assert "ph:developer:payments" in said
    comes_from_the_authority(people, kubeconfig, laptop, by_vault=site.real is not None)
    bank = laptop.demo.platform
    may = laptop.json("access", "can-i", "get", "pods", "-n", "payments", "--platform", bank)
    assert may["allowed"]
    assert may["cluster"] == "dev"
    refused = laptop.run("access", "can-i", "delete", "pods", "-n", "payments", "--platform", bank, code=1)
    assert refused.stdout.startswith("no: ")
    elsewhere = laptop.json("access", "can-i", "get", "pods", "-n", "ledger", "--platform", bank, code=1)
    assert not elsewhere["allowed"]


def comes_from_the_authority(people: People, kubeconfig: Path, laptop: Laptop, by_vault: bool) -> None:
    """What the plugin hands to kubectl is signed by the authority that the portal shows: with real servers, Vault's."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    plugin = next(item["user"]["exec"] for item in config["users"])
    credential = yaml.safe_load(laptop.start(plugin["command"], *plugin["args"]).stdout)
    leaf = x509.load_pem_x509_certificate(credential["status"]["clientCertificateData"].encode())
    shown = authority(people, "dev")
    leaf.verify_directly_issued_by(shown)
    name = shown.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    assert name == ("Bank access" if by_vault else "Bank dev access")


def test_certificate_belongs_to_one_cluster(people: People, laptop: Laptop) -> None:
    laptop.log_in("carol")
    got = laptop.json("access", "cert", "developer", "--cluster", "dev")
    config = yaml.safe_load(Path(got["kubeconfig"]).read_text(encoding="utf-8"))
    plugin = next(item["user"]["exec"] for item in config["users"])
    assert "client-key-data" not in str(config)
    # As kubectl does: it runs the plugin and takes what it prints.
    credential = yaml.safe_load(laptop.start(plugin["command"], *plugin["args"]).stdout)
    leaf = x509.load_pem_x509_certificate(credential["status"]["clientCertificateData"].encode())

    leaf.verify_directly_issued_by(authority(people, "dev"))
    for other in ("test", "uat", "prod"):
        with pytest.raises((InvalidSignature, ValueError)):
            leaf.verify_directly_issued_by(authority(people, other))
    assert [a.value for a in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)] == ["carol"]
    assert leaf.not_valid_after_utc - datetime.now(UTC) < timedelta(hours=16)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]


def test_elevation_needs_somebody_else(people: People, laptop: Laptop) -> None:
    asking = people("alice")
    asking.goto("/access/")
    asking.get_by_role("region", name="Shell").get_by_role("link", name="Ask for it").click()
    asking.get_by_label("Cluster").select_option("test")
    asking.get_by_role("button", name="Ask").click()
    expect(asking.get_by_label("Reason")).to_be_focused()  # the browser itself says that it is needed
    asking.get_by_label("Reason").fill(REASON)
    asking.get_by_role("textbox", name="How long").fill("two hours")
    asking.get_by_role("button", name="Ask").click()
    expect(asking.get_by_text("write it as 8h, 45m or 1h30m")).to_be_visible()
    expect(asking.get_by_label("Reason")).to_have_value(REASON)
    expect(asking.get_by_label("Cluster")).to_have_value("test")
    asking.get_by_role("textbox", name="How long").fill("45m")
    asking.get_by_role("button", name="Ask").click()
    asking.wait_for_url("**/access/requests/*")
    request = urlsplit(asking.url).path.rpartition("/")[2]
    expect(asking.get_by_role("heading", level=1)).to_have_text("shell on test for alice")

    # Not by the one who asked: the button says so, and so does the portal when it is asked all the same.
    refused = asking.locator(".denied")
    expect(refused.get_by_role("button", name="Approve")).to_be_disabled()
    expect(refused).to_contain_text("own")
    token = asking.locator("input[name=csrf_token]").first.input_value()
    forced = asking.request.post(
        f"/access/requests/{request}/decide",
        form={"csrf_token": token, "decision": "approve"},
        headers={"Origin": laptop.demo.address},
    )
    assert forced.status == 403
    laptop.log_in("alice")
    assert laptop.run("access", "claim", request, code=None).returncode == 2

    deciding = people("quentin")
    deciding.goto("/")
    waiting = deciding.get_by_role("region", name="Access", exact=True)
    expect(waiting).to_contain_text("1 request waits for you")
    waiting.get_by_role("link", name="alice: shell on test").click()
    expect(deciding.get_by_role("region", name="What it would grant")).to_contain_text("open a shell in pods")
    expect(deciding.get_by_text(REASON)).to_be_visible()
    deciding.get_by_role("button", name="Deny").click()
    expect(deciding.get_by_text("say why, so that the next request can be better")).to_be_visible()
    deciding.get_by_label("Comment").fill("go ahead, and tell me what you saw")
    deciding.get_by_role("button", name="Approve").click()
    expect(deciding.get_by_role("status").first).to_contain_text("was approved")

    claimed = laptop.json("access", "claim", request)
    assert claimed["profile"] == "shell"
    assert "ph:elevated:shell:payments" in laptop.run("access", "inspect").stdout
    asking.goto("/access/")
    row = asking.get_by_role("row").filter(has=asking.get_by_role("button", name="Give back shell on test"))
    expect(row.locator("time[data-countdown]")).to_have_text(re.compile(r"^in 4[45] min$"))
    row.get_by_role("button", name="Give back").click()
    expect(asking.get_by_role("status").first).to_be_visible()
    expect(asking.get_by_role("button", name="Give back shell on test")).to_have_count(0)
    asking.goto(f"/access/requests/{request}")
    expect(asking.get_by_text("Nothing more can happen to it.")).to_be_visible()
    check_ledger(people, laptop, request)


def test_a_cluster_that_cannot_bind_signs_nothing_and_says_why(people: People, laptop: Laptop) -> None:
    """The worker binds each request on prod, whose API server and token are not here: the break-glass of two people,
    opened there, gets its reason at once and can be claimed again."""
    asking = people("peggy")
    asking.goto("/access/profiles/break-glass")
    asking.get_by_label("Cluster").select_option("prod")
    asking.get_by_label("Reason").fill("The directory is down, and so is the API of payments")
    asking.get_by_role("button", name="Ask").click()
    asking.wait_for_url("**/access/requests/*")
    request = urlsplit(asking.url).path.rpartition("/")[2]
    deciding = people("quentin")
    deciding.goto("/access/break-glass")
    deciding.get_by_role("link", name=request).click()
    deciding.get_by_role("button", name="Approve").click()
    expect(deciding.get_by_role("status").first).to_contain_text("was approved")
    laptop.log_in("peggy")
    refused = laptop.run("access", "claim", request, code=None)
    assert refused.returncode != 0
    assert f"prod did not bind request {request}: the token of cluster prod is not here" in refused.stderr
    assert "can be claimed again" in refused.stderr
    laptop.run("access", "give-back", request)


def check_ledger(people: People, laptop: Laptop, request: str) -> None:
    """Each step stands in the ledger, whose chain is whole; the audit page narrows by its address and gives CSV."""
    steps = {"elevation.requested", "elevation.approved", "certificate.intent", "certificate.issued"}
    verified = laptop.json("access", "verify-ledger", "--data", laptop.demo.data)
    assert verified["whole"]
    assert verified["entries"] >= len(steps)

    page = people("quentin")
    page.goto("/audit/")
    page.get_by_label("Who").fill("alice")
    page.get_by_label("What").fill("elevation.")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("actor") == ["alice"])
    assert parse_qs(urlsplit(page.url).query)["kind"] == ["elevation."]
    expect(page.get_by_role("link", name="elevation.requested")).to_have_count(1)
    expect(page.get_by_role("link", name="elevation.approved")).to_have_count(0)
    page.goto(f"/audit/?subject={request}")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(started.value.path()).read_text(encoding="utf-8"))))
    kinds = {row["kind"] for row in rows}
    assert {"elevation.requested", "elevation.approved"} <= kinds
    assert {row["subject"] for row in rows} == {request}
    page.goto("/audit/verify")
    expect(page.get_by_text("follow from one another")).to_be_visible()
