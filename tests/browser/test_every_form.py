"""Pages that only a POST shows: forms with mistakes, and what a form that was right answers with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from support.browser import People, expect
from support.pages import mistakes
from support.visits import FORMS

from pilothouse.access.unusual import Alert, Signal
from pilothouse.store import Store, unusual

if TYPE_CHECKING:
    from playwright.sync_api import Page

Addresses = Mapping[str, str]
BROKEN = ("sensitivity: high", "sensitivity: [high")


def clean(page: Page) -> None:
    found = mistakes(page)
    assert not found, found


def alerted(page: Page) -> None:
    """The form says that it was not sent, and what is wrong; nothing else of the page suffers."""
    expect(page.get_by_role("alert").first).to_be_visible()
    clean(page)


def log_in_wrongly(people: People, later: Addresses) -> None:
    page = people.anonymous()
    page.goto("/login")
    page.get_by_label("User").fill("alice")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    alerted(page)


def paste_a_request(people: People, later: Addresses) -> None:
    page = people("alice")
    page.goto("/access/profiles/developer")
    page.get_by_role("textbox", name="Signing request").fill("no request")
    page.get_by_role("button", name="Sign").click()
    alerted(page)
    key = ec.generate_private_key(ec.SECP256R1())
    built = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    page.get_by_role("textbox", name="Signing request").fill(built.public_bytes(Encoding.PEM).decode())
    page.get_by_role("button", name="Sign").click()
    expect(page.get_by_role("textbox", name="Certificate")).to_have_value(re.compile("^-----BEGIN CERTIFICATE"))
    clean(page)


def ask_wrongly(people: People, later: Addresses) -> None:
    page = people("alice")
    page.goto("/access/profiles/shell")
    page.get_by_label("Reason").fill("To look at it")
    page.get_by_role("textbox", name="How long").fill("two hours")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("write it as 8h, 45m or 1h30m")).to_be_visible()
    alerted(page)


def deny_without_a_word(people: People, later: Addresses) -> None:
    page = people("quentin")
    page.goto(later["waiting"])
    page.get_by_role("button", name="Deny").click()
    alerted(page)


def lock_wrongly(people: People, later: Addresses) -> None:
    page = people("alice")
    page.goto("/access/locks")
    page.get_by_role("textbox", name="Reason").fill("The laptop was lost")
    page.get_by_role("textbox", name="For").fill("two hours")
    page.get_by_label("Person, or serial").fill("nobody-of-that-name")
    page.get_by_role("button", name="Lock", exact=True).click()
    expect(page.get_by_text("write it as 45m, 8h or 7d")).to_be_visible()
    expect(page.get_by_role("textbox", name="Reason")).to_have_value("The laptop was lost")
    alerted(page)


def claim_wrongly(people: People, later: Addresses) -> None:
    page = people("alice")
    page.goto(later["approved"])
    clean(page)
    page.get_by_role("textbox", name="Signing request").fill("no request")
    page.get_by_role("button", name="Claim").click()
    alerted(page)


def write_a_proposal(people: People, later: Addresses) -> None:
    page = people("alice")
    page.goto("/egress/new?service=payments/payments")
    text = page.get_by_role("textbox", name=".yaml")
    text.fill(text.input_value().replace(*BROKEN))
    page.get_by_role("button", name="Look at the effect").click()
    expect(page.locator(".caret")).to_be_visible()
    clean(page)

    page.goto("/egress/new?service=payments/payments")
    page.get_by_label("Kind").select_option("internet")
    page.get_by_role("button", name="Add to the document").click()
    page.get_by_role("button", name="Remove ledger/ledger").click()
    expect(page.get_by_role("button", name="Submit")).to_be_visible()
    page.get_by_text("The difference, as text").click()
    clean(page)


def edit_a_proposal(people: People, later: Addresses) -> None:
    page = people("alice")
    page.goto(later["egress.edit"])
    page.get_by_role("textbox", name="Why").fill("")
    page.get_by_role("button", name="Submit").click()
    alerted(page)


def refuse_without_a_word(people: People, later: Addresses) -> None:
    page = people("erin")
    page.goto(later["egress.show"])
    page.get_by_role("button", name="Refuse").first.click()
    expect(page.get_by_text("a refusal needs a comment")).to_be_visible()
    clean(page)


def paste_a_configuration(people: People, later: Addresses) -> None:
    page = people("alice")
    page.goto("/alerts/config")
    page.get_by_label("Configuration").fill("route: {receiver: desk, group_by: [a, a]}\nreceivers: [{name: other}]\n")
    page.get_by_role("button", name="Show the path").click()
    alerted(page)


def silence_wrongly(people: People, later: Addresses) -> None:
    page = people("alice")
    page.goto("/alerts/silences?cluster=prod")
    page.get_by_label("Alerts", exact=True).fill('{team="payments"')
    page.get_by_label("Reason", exact=True).fill("we know")
    page.get_by_role("button", name="Hold them back").click()
    alerted(page)


def call_expected_without_a_word(people: People, later: Addresses) -> None:
    signal = Signal("new-network", 25, "198.51.100.0/24", "198.51.100.0/24, first at 03:00 UTC", "31 usual days")
    store = Store(people.demo.data)
    unusual.keep(store, [Alert("alice", datetime.now(UTC).date(), 25, False, (signal,))])
    store.close()
    page = people("peggy")
    page.goto("/audit/unusual/")
    clean(page)
    page.get_by_role("textbox", name="Why a-").first.fill("     x")
    page.get_by_role("button", name="Expected a-").first.click()
    alerted(page)
    expect(page.get_by_text("a reason is needed")).to_be_visible()


SHOWN: dict[str, Callable[[People, Addresses], None]] = {
    "access.ask": ask_wrongly,
    "access.certificate": paste_a_request,
    "access.claim": claim_wrongly,
    "access.decide": deny_without_a_word,
    "auth.login": log_in_wrongly,
    "egress.decide": refuse_without_a_word,
    "egress.edit": edit_a_proposal,
    "egress.new": write_a_proposal,
    "silences.silence": silence_wrongly,
    "locks.put": lock_wrongly,
    "routing.look_at_config": paste_a_configuration,
    "unusual.expected": call_expected_without_a_word,
}


def test_every_form_is_among_them() -> None:
    assert set(SHOWN) == FORMS


@pytest.mark.parametrize("endpoint", SHOWN)
def test_form(people: People, later: Addresses, endpoint: str) -> None:
    SHOWN[endpoint](people, later)
