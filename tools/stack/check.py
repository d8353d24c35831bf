"""`make stack-check`: the five things, done by the ways that a person has, and what was seen of each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack import bank, console
from stack.load import Told
from stack.machine import Failed
from stack.servers import Stack
from stack.visitor import Visitor
from support.bed.web import get_json

from pilothouse.files.wallet import Wallet

LIMIT = 4 * 2**30
"""Bytes that the whole stack may hold in memory."""
PATIENCE = 60.0
"""Seconds to wait for what should come, on a machine that is busy."""
ADMIN = "peggy"
LEAF = "prometheus-leaf-0"
FIRING = "/alerts/firing"
CALICO = ("globalnetworksets", "stagedkubernetesnetworkpolicies")
"""Calico's kinds of which the bank has some."""
REMOVED = '[{"op": "remove", "path": "/spec/egress/0"}]'


class Unseen(Exception):
    """What should have been seen, and was not."""


@dataclass
class Checks:
    stack: Stack

    # ------------------------------------------------------------ words

    def saw(self, text: str) -> None:
        """One line of what was seen."""
        say(f"   {text}")

    def want(self, true: object, otherwise: str) -> None:
        if not true:
            raise Unseen(otherwise)

    def until(self, look: Callable[[], Any], otherwise: Callable[[], str], pause: float = 0.2) -> Any:
        """What `look` returns as soon as it is true."""
        ends = time.monotonic() + PATIENCE
        while not (found := look()):
            if time.monotonic() > ends:
                raise Unseen(f"{otherwise()} (waited {PATIENCE:.0f} s)")
            time.sleep(pause)
        return found

    # ------------------------------------------------------------ people

    def home(self, user: str) -> Path:
        return self.stack.folder / "homes" / user

    def password(self, user: str) -> str:
        return next(person.password for person in self.stack.people if person.name == user)

    def log_in(self, user: str) -> None:
        self.stack.shell.pilothouse(
            "access", "login", "--user", user, home=self.home(user), stdin=f"{self.password(user)}\n"
        )

    def visitor(self, user: str) -> Visitor:
        return Visitor(self.stack.addresses.portal, user, self.password(user))

    def json(self, user: str, *arguments: object, codes: tuple[int, ...] = (0,)) -> Any:
        """What `pilothouse ARGUMENTS --output json` prints for that person."""
        return json.loads(
            self.stack.shell.pilothouse(*arguments, "--output", "json", home=self.home(user), codes=codes) or "null"
        )

    def kubectl(self, *arguments: object, kubeconfig: Path | None = None, fails: bool = False) -> str:
        """What kubectl prints, or complains of where it is to fail."""
        done = self.stack.shell.run(
            self.stack.shell.kubectl, *arguments, kubeconfig=kubeconfig, home=self.home("alice")
        )
        said = done.stderr if fails else done.stdout
        self.want(bool(done.returncode) == fails, f"kubectl {arguments} ended with {done.returncode}: {done.stderr}")
        return said.strip()

    def load(self) -> None:
        """All of it works by itself: watchdogs are heard of every Prometheus, and records arrive."""
        wanted = bank.SHARDS + 1
        self.until(
            lambda: len(self.stack.pager.watchdogs) == wanted,
            lambda: f"only these watchdogs are heard: {sorted(self.stack.pager.watchdogs)}",
        )
        self.saw(f"watchdogs heard: {', '.join(sorted(self.stack.pager.watchdogs))}")
        logs = self.stack.logs
        self.until(lambda: logs.sent, lambda: f"Elasticsearch took no record: {logs.reason}")
        self.want(not logs.refused, f"Elasticsearch refused {logs.refused} records: {logs.reason}")
        self.saw(f"Elasticsearch took {logs.sent} log records and refused none")
        for kind in CALICO:
            held = self.kubectl("get", f"{kind}.projectcalico.org", "-A", "-o", "name").splitlines()
            self.want(held, f"the API server has no {kind}, which the declarations lead to")
            self.saw(f"the API server has {len(held)} {kind}")
        self.until(self.loaded, lambda: "the servers have loaded something else than what is rendered")
        self.saw("pilothouse alerts loaded: Alertmanager and all of Prometheus have loaded what is rendered")

    def loaded(self) -> bool:
        """Whether the servers have loaded what the declarations lead to."""
        command = ("alerts", "loaded", self.stack.platform, "--cluster", bank.CLUSTER)
        said = self.stack.shell.pilothouse(*command, home=self.home("alice"), codes=(0, 1))
        return said.count("has loaded what is rendered") == bank.SHARDS + 2

    def page_with(self, user: str, path: str, text: str) -> str:
        """What that person reads on the page, once the text stands on it: what servers say is kept for some seconds."""
        visitor, read = self.visitor(user), ""

        def look() -> str:
            nonlocal read
            read = visitor.text(path)
            return read if text in read else ""

        return str(self.until(look, lambda: f"{path} does not show {text}, but: {read[:500]}"))

    # ------------------------------------------------------------ the five things

    def certificate(self) -> None:
        """Get a certificate, and use it with kubectl."""
        user, file = "alice", self.stack.folder / "homes" / "alice.kubeconfig"
        self.log_in(user)
        asked = ("access", "cert", "developer", "--cluster", bank.CLUSTER)
        got = self.json(user, *asked, "--kubeconfig", file)
        self.saw(f"{got['user']} may act as {got['profile']} until {got['not_after']}, signed by Vault")
        pods = self.kubectl("get", "pods", "-n", "payments", "-o", "name", kubeconfig=file).splitlines()
        self.want(len(pods) >= 3, f"kubectl shows only {pods} of namespace payments")
        self.saw(f"kubectl get pods -n payments: {len(pods)} pods")
        refused = self.kubectl("get", "pods", "-n", "ledger", kubeconfig=file, fails=True)
        self.want("Forbidden" in refused, f"another team's namespace was not refused: {refused}")
        self.saw(f"kubectl get pods -n ledger: {refused}")
        review = json.loads(self.kubectl("auth", "whoami", "-o", "json", kubeconfig=file))
        who = review["status"]["userInfo"]
        self.want(who["username"] == user, f"the API server takes {user} for {who['username']}")
        self.want("ph:developer:payments" in who["groups"], f"the API server sees the groups {who['groups']}")
        (credential,) = who["extra"]["authentication.kubernetes.io/credential-id"]
        self.saw(f"kubectl auth whoami: {user}, {', '.join(who['groups'])}, {credential[:27]}…")
        audit = self.visitor(ADMIN).text("/audit/")
        self.want(got["serial"][:12] in audit or "certificate.issued" in audit, f"the audit page shows none: {audit}")
        self.saw("the portal's audit page has it")

    def paged(self) -> None:
        """Break a service, and watch who is paged."""
        route = self.json("alice", "alerts", "route", self.stack.platform, "--cluster", bank.CLUSTER, *console.PAGE)[
            "receivers"
        ]
        expected = [item["receiver"] for item in route]
        since, began = len(self.stack.pager.read()), time.monotonic()
        self.stack.break_("payments/payments")
        try:
            told = self.told(since, "ReplicasBelow", "firing")
            self.saw(f"{told.receiver} was told of {told.alerts[0][0]} {told.alerts[0][1]}"
                     f" after {time.monotonic() - began:.0f} s")  # fmt: skip
            self.want([told.receiver] == expected, f"`alerts route` says {expected}, and {told.receiver} was told")
            self.saw(f"pilothouse alerts route: {expected[0]}, on call is {route[0]['person']}")
            page = self.page_with("alice", FIRING, "ReplicasBelow")
            self.want(route[0]["person"] in page, f"the portal's page does not name {route[0]['person']}")
            self.saw(f"the portal's page of what fires shows ReplicasBelow, and {route[0]['person']}")
            firing = self.json("alice", "alerts", "firing", self.stack.platform, "--cluster", bank.CLUSTER)
            self.want("ReplicasBelow" in json.dumps(firing), f"`alerts firing` shows {firing}")
        finally:
            self.stack.mend("payments/payments")
        self.told(since, "ReplicasBelow", "resolved")
        self.saw("mended, and told so")

    def told(self, since: int, alert: str, status: str) -> Told:
        """The first notification of that alert after so many others."""

        def look() -> Told | None:
            fresh = self.stack.pager.read()[since:]
            return next((item for item in fresh if item.status == status and alert in _names(item)), None)

        def otherwise() -> str:
            fresh = self.stack.pager.read()[since:]
            return f"nobody was told that {alert} is {status}; what came: {'; '.join(map(str, fresh)) or 'nothing'}"

        found: Told = self.until(look, otherwise)
        return found

    def egress(self) -> None:
        """Declare an egress, have it approved, and see the policy in the API server."""
        before = self.policy()
        self.want("accounts" not in json.dumps(before["spec"]), "cards may reach accounts already")
        self.log_in("alice")
        change = ("--add", console.CHANGE, "--reason", console.REASON)
        proposal = self.json("alice", "egress", "propose", console.SERVICE, *change)["proposal"]
        needed = [item["role"] for item in proposal["required"]]
        self.saw(f"proposal {proposal['number']} of alice {proposal['summary']}; must agree: {', '.join(needed)}")
        self.want(needed == ["team:accounts"], f"{needed} must agree, and it should be team:accounts")
        self.log_in(console.APPROVER)
        began = time.monotonic()
        decided = self.json(console.APPROVER, "egress", "approve", proposal["number"])
        agreed = time.monotonic()
        self.saw(f"{console.APPROVER} agreed: commit {decided['commit'][:12]}, {agreed - began:.1f} s")
        self.until(
            lambda: self.policy()["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"],
            lambda: f"the policy in the API server is as before; {self.job('apply')}",
            0.05,
        )
        took = time.monotonic() - agreed
        peers = [_peer(rule) for rule in self.policy()["spec"]["egress"]]
        self.want("accounts/accounts:8080" in peers, f"the policy in the API server allows {peers}")
        self.saw(f"kubectl get networkpolicy {console.POLICY}: accounts/accounts:8080, {took:.1f} s after the approval")
        other = json.loads(self.kubectl("get", "networkpolicy", "-n", "accounts", "-o", "json"))
        allowed = [item for item in other["items"] if "cards" in json.dumps(item["spec"])]
        self.want(allowed, "no policy of accounts lets cards in")
        self.saw(f"and the other end: {allowed[0]['metadata']['name']} lets cards/cards in")

    def policy(self) -> Any:
        name = ("networkpolicy", "-n", "cards", console.POLICY)
        return json.loads(self.kubectl("get", *name, "-o", "json"))

    def stopped(self) -> None:
        """Stop a server, and see what the portal and the alerts say."""
        since, began = len(self.stack.pager.read()), time.monotonic()
        self.stack.stop_server(LEAF)
        try:
            told = self.told(since, "PrometheusLeafDown", "firing")
            self.saw(f"{LEAF} stopped: {told.receiver} was told of PrometheusLeafDown"
                     f" after {time.monotonic() - began:.0f} s")  # fmt: skip
            status = self.json(
                "alice", "metrics", "status", self.stack.platform, "--cluster", bank.CLUSTER, codes=(0, 1)
            )
            self.want(self.stack.addresses.leaves[0] in json.dumps(status), "`metrics status` does not name the leaf")
            self.page_with(ADMIN, FIRING, "PrometheusLeafDown")
            self.saw("the portal's page of what fires shows PrometheusLeafDown")
        finally:
            self.stack.start_server(LEAF)
        self.told(since, "PrometheusLeafDown", "resolved")
        self.saw(f"{LEAF} started again: resolved")
        self.stack.stop_server("alertmanager")
        try:
            began = time.monotonic()
            why = _from(self.page_with(ADMIN, FIRING, "alertmanager at http"), "alertmanager at http")
            self.saw(f"Alertmanager stopped: after {time.monotonic() - began:.0f} s the page says: {why}")
        finally:
            self.stack.start_server("alertmanager")

    def drift(self) -> None:
        """Edit a policy by hand, see the drift, and mend it."""
        patch = ("patch", "networkpolicy", "-n", "cards", console.POLICY, "--type=json", "-p", REMOVED)
        before = [_peer(rule) for rule in self.policy()["spec"]["egress"]]
        self.kubectl(*patch)
        self.saw(f"kubectl patch removed {before[0]} from {console.POLICY}")
        platform, cluster = self.stack.platform, ("--live", "--cluster", bank.CLUSTER)
        difference = self.stack.shell.pilothouse("diff", platform, *cluster, codes=(0, 1))
        self.want(f"NetworkPolicy cards/{console.POLICY}" in difference, f"`diff --live` shows: {difference}")
        self.saw(f"pilothouse diff --live: NetworkPolicy cards/{console.POLICY} differs")
        admin = self.visitor(ADMIN)
        self.run_job(admin, "drift")
        found = self.until(self.finding, lambda: f"the portal has no finding; {self.job('drift')}")
        self.want(found["message"] in admin.text("/problems/"), "the problems page does not show the finding")
        self.saw(f"the portal's finding {found['code']}: {found['message']}")
        refused = self.stack.shell.pilothouse("apply", bank.CLUSTER, platform, "--yes", codes=(0, 1))
        if "apply/conflict" in refused or "nothing was applied" in refused:
            self.saw("pilothouse apply leaves it as it is: somebody else set the field")
        self.stack.shell.pilothouse("apply", bank.CLUSTER, platform, "--yes", "--force-conflicts")
        after = [_peer(rule) for rule in self.policy()["spec"]["egress"]]
        self.want(after == before, f"after the apply it allows {after}, and should allow {before}")
        self.saw("pilothouse apply --force-conflicts mends it")
        self.run_job(admin, "drift")
        self.until(
            lambda: self.finding() is None,
            lambda: f"the finding is still there; {self.job('drift')}",
        )
        self.saw("the finding is gone")

    def finding(self) -> Any:
        """What the portal says of the policy, None where it is well."""
        of_policy = (item for item in self.api("problems") if console.POLICY in item["message"])
        return next((item for item in of_policy if item["code"] == "policies/drift"), None)

    def run_job(self, admin: Visitor, name: str) -> None:
        """Ask for a run by the jobs page, and wait until it is done."""
        before = self.job(name)["finished_at"]
        admin.post(f"/jobs/{name}/run", {}, form="/jobs/")
        self.until(lambda: self.job(name)["finished_at"] != before, lambda: f"no run of {name}: {self.job(name)}")

    def job(self, name: str) -> Any:
        """A job as the API shows it."""
        return next(item for item in self.api("jobs") if item["name"] == name)

    def api(self, path: str) -> Any:
        """The items of `/api/v1/PATH` for alice."""
        login = Wallet(self.home("alice") / "pilothouse").login()
        if login is None:
            raise Unseen("alice is not logged in")
        return get_json(f"{self.stack.addresses.portal}/api/v1/{path}", {"Authorization": f"Bearer {login.token}"})[
            "items"
        ]


def _names(told: Told) -> Iterable[str]:
    return (name for name, _ in told.alerts)


def _peer(rule: Any) -> str:
    """`namespace/app:port` of a rule with one peer and one port."""
    peer, port = rule["to"][0], rule["ports"][0]["port"]
    namespace = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name", "cards")
    labels = peer.get("podSelector", {}).get("matchLabels", {})
    return f"{namespace}/{labels.get('app', next(iter(labels.values()), ''))}:{port}"


def _from(text: str, part: str, most: int = 60) -> str:
    """The text from the first place of `part` on, "" where it does not stand there."""
    at = text.find(part)
    return text[at : at + most].rsplit(" ", 1)[0] if at >= 0 else ""


def check(stack: Stack) -> int:
    """All five; 0 when each was seen."""
    checks = Checks(stack)
    memory = stack.memory()
    total = sum(memory.values())
    say(f"\nThe stack is up after {stack.seconds:.0f} s, and holds {total / 2**30:.2f} GiB:")
    say("   " + ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in memory.items()))
    unseen = 0
    for number, thing in enumerate(
        (checks.load, checks.certificate, checks.paged, checks.egress, checks.stopped, checks.drift)
    ):
        began = time.monotonic()
        say(f"\n{number}. {thing.__doc__}")
        try:
            thing()
            say(f"   seen, {time.monotonic() - began:.0f} s")
        except (Unseen, Failed, OSError, LookupError, ValueError) as failure:
            unseen += 1
            say(f"   NOT SEEN: {type(failure).__name__}: {failure}")
    if total >= LIMIT:
        say(f"\nThat is more memory than {LIMIT / 2**30:.0f} GiB.")
    say("\nAll of it was seen." if not unseen else f"\nNot seen: {unseen}.")
    return 1 if unseen or total >= LIMIT else 0


def say(text: str) -> None:
    print(text, flush=True)
