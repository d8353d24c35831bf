"""Writes observed flows of the bank: `python bench/bank_flows.py [FILE]` (default `examples/bank/flows/prod.csv`).

What was seen in one day on prod, as CSV. As in life it is not quite what the services declare: a few calls nobody
wrote down, and addresses that the observer did not tell apart. A test holds the committed file against what this
writes.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from pilothouse.files import snapshot as snapshot_files

BANK = Path(__file__).resolve().parents[1] / "examples" / "bank"
HEADER = "source,destination,protocol,port,count,bytes,first_seen,last_seen,action"
BEGAN = 1_795_132_800
"""2026-11-20 00:00 UTC, in Unix seconds."""
DAY = 86_400

SEEN: tuple[tuple[str, str, str, int, int], ...] = (
    ("ingress/ingress-controller", "channels/gateway", "TCP", 8080, 9200),
    ("ingress/ingress-controller", "channels/webhooks", "TCP", 8080, 310),
    ("channels/gateway", "channels/web-bff", "TCP", 8080, 5400),
    ("channels/gateway", "channels/mobile-bff", "TCP", 8080, 3700),
    ("channels/gateway", "accounts/identity", "TCP", 8080, 9100),
    ("channels/web-bff", "payments/payments", "TCP", 8080, 820),
    ("channels/web-bff", "accounts/accounts", "TCP", 8080, 4100),
    ("channels/web-bff", "accounts/statements", "TCP", 8443, 640),
    ("channels/web-bff", "data/redis", "TCP", 6379, 5300),
    ("channels/mobile-bff", "payments/payments", "TCP", 8080, 1150),
    ("channels/mobile-bff", "cards/cards", "TCP", 8080, 900),
    ("channels/mobile-bff", "notifications/dispatcher", "TCP", 8080, 410),
    ("channels/webhooks", "data/kafka", "TCP", 9092, 300),
    ("payments/payments", "ledger/ledger", "TCP", 9090, 1900),
    ("payments/payments", "accounts/accounts", "TCP", 8080, 1900),
    ("payments/payments", "risk/fraud", "TCP", 8080, 1880),
    ("payments/payments", "risk/sanctions", "TCP", 8080, 1880),
    ("payments/payments", "cards/tokenizer", "TCP", 8443, 720),
    ("payments/payments", "data/postgres", "TCP", 5432, 240),
    ("payments/standing-orders", "payments/payments", "TCP", 8080, 96),
    ("payments/settlement", "203.0.113.40", "TCP", 443, 24),
    ("accounts/accounts", "data/postgres", "TCP", 5432, 180),
    ("accounts/accounts", "ledger/ledger", "TCP", 9090, 2400),
    ("accounts/identity", "172.31.10.2", "TCP", 636, 1300),
    ("cards/cards", "cards/tokenizer", "TCP", 8443, 880),
    ("ledger/ledger", "data/postgres", "TCP", 5432, 420),
    ("ledger/reporting", "172.31.40.3", "TCP", 22, 2),
    ("notifications/dispatcher", "172.31.20.25", "TCP", 587, 400),
    ("risk/fraud", "risk/features", "TCP", 9090, 1880),
    ("risk/features", "data/kafka", "TCP", 9092, 60),
    ("payments/payments", "vault/vault", "TCP", 8200, 12),
    ("payments/payments", "kube-system/coredns", "UDP", 53, 7400),
    ("accounts/statements", "kube-system/coredns", "UDP", 53, 900),
    ("monitoring/prometheus-leaf", "payments/payments", "TCP", 9102, 2880),
    ("monitoring/prometheus-leaf", "accounts/accounts", "TCP", 9102, 2880),
    # Nobody declares these.
    ("accounts/statements", "data/postgres", "TCP", 5432, 75),
    ("notifications/dispatcher", "accounts/accounts", "TCP", 8080, 260),
    ("payments/settlement", "198.51.100.77", "TCP", 22, 3),
    # The observer did not tell these addresses apart.
    ("channels/webhooks", "public", "TCP", 443, 290),
)
"""(source, destination, protocol, port, connections), a workload as `namespace/name`."""


def lines() -> list[str]:
    """Two replicas at most of each source, each with a share of the connections."""
    snapshot, problems = snapshot_files.read(BANK / "snapshots" / "prod")
    if problems:
        raise SystemExit(problems[0].message)
    pods: dict[str, list[str]] = {}
    for pod in snapshot.pods:
        if pod.is_endpoint and pod.owner is not None:
            pods.setdefault(f"{pod.namespace}/{pod.owner.name}", []).append(pod.key)
    dice = random.Random("the bank's prod")
    found = [HEADER]
    for source, destination, protocol, port, count in SEEN:
        callers = pods[source][:2]
        for number, caller in enumerate(callers):
            share = count // len(callers) + (number < count % len(callers))
            called = dice.choice(pods[destination]) if destination in pods else destination
            first, last = BEGAN + dice.randrange(3600), BEGAN + DAY - 1 - dice.randrange(3600)
            size = share * dice.randrange(900, 12_000)
            found.append(f"{caller},{called},{protocol},{port},{share},{size},{first},{last},allow")
    return found


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else BANK / "flows" / "prod.csv"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
