"""What the stack prints: where everything is, who may log in, and five things to try."""

from __future__ import annotations

import os
from pathlib import Path

from stack import bank
from stack.servers import Stack

PAGE = ("alertname=ReplicasBelow", "team=payments", "severity=page", "namespace=payments", "service=payments")
SERVICE, APPROVER, REASON = "cards/cards", "erin", "Show balances beside cards"
POLICY = "pilothouse-cards-egress"
CHANGE = "{to: {service: accounts/accounts}, ports: [http]}"


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def welcome(stack: Stack) -> str:
    """Everything a person needs to begin."""
    memory = sum(stack.memory().values()) / 2**30
    lines = [
        "",
        f"The bank runs on real servers, after {stack.seconds:.0f} s and in {memory:.1f} GiB. Ctrl-C ends all of it.",
        "",
        f"  Portal         {stack.addresses.portal}",
        f"  API server     {stack.addresses.api}   (kubeconfig of an administrator: {_short(stack.kubeconfig)})",
        f"  Vault          {stack.addresses.vault}   (root token: {stack.vault.token_file})",
        f"  Directory      {stack.slapd.url}   (people below {stack.branch.people})",
        *(f"  Prometheus     {url}   (leaf {number})" for number, url in enumerate(stack.addresses.leaves)),
        f"  Prometheus     {stack.addresses.prometheus}   (global)",
        f"  Alertmanager   {stack.addresses.alertmanager}",
        f"  Elasticsearch  {stack.addresses.elasticsearch}   (user elastic: {stack.elasticsearch.password_file})",
        f"  Declarations   {_short(stack.platform)}   (a Git repository; approved proposals become commits there)",
        f"  Logs           {_short(stack.servers['pilothouse'].log.parent)}",
        "",
        "People of the directory, with passwords of this start:",
        "",
        *(f"  {item.name:10} {item.password:36} {item.team:10} {' '.join(item.groups)}" for item in stack.people),
        "",
        five_things(stack),
    ]
    return "\n".join(lines)


def five_things(stack: Stack) -> str:
    """As commands to copy."""
    platform, cluster, portal = _short(stack.platform), bank.CLUSTER, stack.addresses.portal
    mine = _short(stack.folder / "alice.kubeconfig")
    return f"""\
Five things to try in another terminal, in this folder. First of all:
     . {_short(stack.folder / "env")}

1. Get a certificate, and use it with kubectl:
     pilothouse access login --user alice
     pilothouse access cert developer --cluster {cluster} --kubeconfig {mine}
     kubectl --kubeconfig {mine} get pods -n payments
     kubectl --kubeconfig {mine} get pods -n ledger     # forbidden: another team's
     kubectl --kubeconfig {mine} auth whoami

2. Break a service, and watch who is paged:
     stack break payments/payments
     stack paged                                      # after some 20 s
     pilothouse alerts firing {platform} --cluster {cluster}
     pilothouse alerts route {platform} --cluster {cluster} {" ".join(PAGE)}
     stack mend payments/payments

3. Declare an egress, have it approved, and see the policy in the API server:
     pilothouse egress propose {SERVICE} --add '{CHANGE}' --reason '{REASON}'
     pilothouse egress list                           # its number, and who must agree
     pilothouse access login --user {APPROVER} && pilothouse egress approve 1
     kubectl get networkpolicy -n cards {POLICY} -o yaml

4. Stop a server, and see what portal and alerts say ({portal}/alerts/firing):
     stack stop prometheus-leaf-0
     stack paged                                      # after some 20 s
     pilothouse metrics status {platform} --cluster {cluster}
     stack start prometheus-leaf-0
     stack servers                                    # the others

5. Edit a policy by hand, see the drift, and mend it:
     kubectl edit networkpolicy -n cards {POLICY}   # change a port
     pilothouse diff {platform} --live --cluster {cluster}
     pilothouse apply {cluster} {platform} --force-conflicts

`stack status` prints this again. Sessions and certificates lie in {_short(stack.folder / "home")}.
"""
