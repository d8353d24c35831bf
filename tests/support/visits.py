"""Every page of the portal, as an address or as what a form answers; a route that stands nowhere here is a mistake.

`PAGES` are addresses that always lead somewhere on the example bank, `LATER` those of things that somebody has to do
first, `FORMS` the routes that answer a POST with a page, `REDIRECTS` those that lead on, `FILES` what is no page.
"""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask
from werkzeug.exceptions import HTTPException

PAGES = """
/ /me /access/ /access/break-glass /access/locks /access/locks?past=yes
/access/what-can /access/what-can?user=alice&cluster=dev /access/what-can?user=nobody-here
/access/who-can /access/who-can?verb=delete&resource=pods&namespace=payments&cluster=prod
/access/who-can?verb=get&resource=nonsense&cluster=prod /access/profiles/developer /access/profiles/cluster-admin
/access/authorities /access/authorities/prod/rotation
/egress/ /egress/?all=yes /egress/new?service=payments/payments
/alerts/ /alerts/?cluster=prod&labels=team%3Dpayments+severity%3Dpage&at=sunday+03:00
/alerts/?labels=nonsense&at=never /alerts/declared?cluster=prod /alerts/config
/alerts/firing?cluster=prod /alerts/silences?cluster=prod
/network/?cluster=prod /network/service/payments/payments?cluster=prod /network/adoption?cluster=prod
/network/?cluster=prod&team=risk&enforced=yes /network/service/risk/fraud?cluster=prod
/network/can?cluster=prod /network/can?cluster=prod&from=payments/payments&to=ledger/ledger&port=9091
/network/can?cluster=prod&from=risk/fraud&to=svc:ledger/ledger /network/can?cluster=prod&from=nobody&to=ledger/ledger
/catalogue/ /catalogue/?q=nothing-like-this /catalogue/payments/payments /catalogue/data/postgres?cluster=dev
/runbooks/ /runbooks/watchdog /problems/ /problems/?severity=info /problems/platform/unknown-service
/audit/ /audit/events /audit/?since=never /audit/verify /audit/unusual/ /jobs/ /nowhere
""".split()
STATUS = {
    "/access/what-can?user=nobody-here": 422,
    "/access/who-can?verb=get&resource=nonsense&cluster=prod": 422,
    "/alerts/?labels=nonsense&at=never": 422,
    "/network/can?cluster=prod&from=nobody&to=ledger/ledger": 422,
    "/nowhere": 404,
}
"""Of the addresses that are not answered by 200."""
LATER = {"access.grant": "/access/requests/{request}", "egress.show": "{proposal}", "egress.edit": "{proposal}/edit"}
"""Endpoint → its address, once there is a request and a proposal."""
FORMS = frozenset(
    "access.ask access.certificate access.claim access.decide auth.login egress.decide egress.edit egress.new "
    "locks.put routing.look_at_config silences.silence unusual.expected".split()
)
REDIRECTS = frozenset(
    "access.give_back auth.end_session auth.logout auth.theme break_glass.review egress.retry egress.submit "
    "egress.withdraw jobs.run locks.lift silences.end".split()
)
FILES = frozenset(
    "access.authority audit.as_csv egress.patch health.healthz health.metrics health.readyz static "
    "unusual.as_csv".split()
)
PARTS = frozenset(("firing.panel", "network_ask.ends", "network_ask.ports"))
"""What htmx puts into a page: looked at as a part of it."""
ELSEWHERE = frozenset(("auth.login", "oidc.begin", "oidc.back"))
"""GET endpoints that a person who is logged in does not see; tests of their own look at them."""


def unvisited(app: Flask) -> list[str]:
    """What no list above has: `METHOD address (endpoint)` of each route, and what a list has that is no route."""
    return sorted([*_missing(app), *_gone(app)])


def _missing(app: Flask) -> Iterator[str]:
    seen = {*_endpoints(app), *LATER, *ELSEWHERE}
    for rule in app.url_map.iter_rules():
        methods = rule.methods or set()
        if rule.rule.startswith("/api/") or rule.endpoint in FILES | PARTS:
            continue
        if "GET" in methods and rule.endpoint not in seen:
            yield f"GET {rule.rule} ({rule.endpoint})"
        if "POST" in methods and rule.endpoint not in FORMS | REDIRECTS:
            yield f"POST {rule.rule} ({rule.endpoint})"


def _gone(app: Flask) -> Iterator[str]:
    known = {rule.endpoint for rule in app.url_map.iter_rules()}
    for endpoint in sorted({*LATER, *FORMS, *REDIRECTS, *FILES, *PARTS, *ELSEWHERE} - known):
        yield f"nothing is called {endpoint} any more"


def _endpoints(app: Flask) -> Iterator[str]:
    """The endpoints behind `PAGES`; an address that leads nowhere has none."""
    adapter = app.url_map.bind("portal.example")
    for page in PAGES:
        try:
            endpoint, _ = adapter.match(page.partition("?")[0])
        except HTTPException:
            if STATUS.get(page) != 404:
                raise
        else:
            yield str(endpoint)
