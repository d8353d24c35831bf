"""The checks, and running them.

Cyclonus' twelve checks (https://github.com/mattfenwick/cyclonus, pkg/linter) are among them: a duplicate name is found
while reading (`duplicate-object`), the others are `namespace-left-out`, `protocol-left-out`, `types-left-out`,
`rules-without-type` (both directions), `egress-without-dns` and `dns-over-tcp-only`, `all-ingress-blocked`,
`all-egress-blocked`, `allow-all-ingress` and `allow-all-egress`. So are the five of network-config-analyzer
(https://github.com/np-guard/network-config-analyzer): emptiness (`policy-selects-nothing`, `peer-matches-nothing`,
`impossible-match`), redundancy (`redundant-policy`, `redundant-rule`), vacuity (`policies-without-effect`),
disjointness (`pods-in-several-policies`) and allCaptured (`pods-without-policy`).
"""

from __future__ import annotations

from collections.abc import Collection

from pilothouse.inventory.model import Snapshot
from pilothouse.policies.lint import impossible, isolation, objects, order, peers, ports, ranges, subjects
from pilothouse.policies.lint.check import Check
from pilothouse.policies.lint.context import Context
from pilothouse.policies.rules import PolicySet
from pilothouse.problems import Problems, Severity, ordered

_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

CHECKS: tuple[Check, ...] = (
    # whom a policy applies to
    Check("policies/policy-selects-nothing", _W, "a policy selects no pod", subjects.selects_nothing),
    Check("policies/policy-on-host-network", _W, "a policy selects pods on the host's network", subjects.host_network),
    Check("policies/policy-selects-hosts", _W, "a policy for pods selects host endpoints, too", subjects.selects_hosts),
    Check(
        "policies/unknown-namespace",
        _W,
        "a policy stands in a namespace that does not exist",
        subjects.unknown_namespace,
    ),
    Check(
        "policies/unknown-account", _W, "a rule names a service account that does not exist", subjects.unknown_accounts
    ),
    Check("policies/pods-left-out", _W, "a default deny leaves pods of its namespace out", isolation.left_out),
    Check("policies/pods-without-policy", _I, "pods that no policy selects", isolation.without_policy),
    Check("policies/pods-in-several-policies", _I, "pods whose policies add up", isolation.several),
    # the other end
    Check("policies/peer-matches-nothing", _W, "a peer is no pod and no address set", peers.matches_nothing),
    Check("policies/no-such-namespace-label", _W, "a namespace selector selects no namespace", peers.no_namespace),
    Check("policies/peer-split-in-two", _W, "two items of a list where one was meant", peers.split),
    Check("policies/peer-on-host-network", _W, "a peer is on the host's network", peers.host_network),
    Check("policies/unknown-service", _W, "a rule names a Service that does not exist", peers.unknown_service),
    Check(
        "policies/service-without-endpoints", _W, "a rule's Service has no endpoints", peers.service_without_endpoints
    ),
    Check("policies/not-selector-alone", _W, "`notSelector` allows every address outside", peers.not_selector_alone),
    Check("policies/other-end-denies", _W, "a rule allows what the other end denies", isolation.other_end_denies),
    Check("policies/impossible-match", _W, "conditions that exclude each other", impossible.impossible),
    # ports
    Check("policies/unknown-port-name", _W, "no pod has a port of that name", ports.unknown_name),
    Check("policies/port-not-open", _W, "no container opens that port", ports.not_open),
    Check("policies/service-port", _W, "a Service's port where its pods' port belongs", ports.service_port),
    Check("policies/dns-over-tcp-only", _W, "DNS is allowed over TCP only", ports.dns_over_tcp_only),
    Check("policies/protocol-left-out", _I, "a port without `protocol`", ports.no_protocol),
    # ranges, and rules for everybody
    Check("policies/world-covers-pods", _W, "`0.0.0.0/0` holds pods, too", ranges.world_covers_pods),
    Check("policies/block-covers-pods", _W, "a range holds pods", ranges.block_covers_pods),
    Check("policies/block-covers-services", _W, "a range holds addresses of Services", ranges.covers_services),
    Check("policies/metadata-reachable", _W, "egress reaches the metadata address", isolation.metadata),
    Check("policies/dns-anywhere", _W, "DNS is allowed to every address", ranges.dns_anywhere),
    Check("policies/many-ports-open", _W, "many ports are open to everybody", ranges.many_ports),
    Check("policies/sensitive-port-open", _W, "a sensitive port is open to everybody", ranges.sensitive_port),
    Check("policies/allow-all-ingress", _W, "a rule allows everything from everybody", isolation.allow_all_ingress),
    Check("policies/allow-all-egress", _I, "a rule allows everything to everybody", isolation.allow_all_egress),
    # what is left
    Check("policies/egress-without-dns", _W, "egress without DNS", isolation.no_dns),
    Check("policies/dns-cut-off", _W, "no pod may ask the DNS pods", isolation.dns_cut_off),
    Check("policies/all-ingress-blocked", _I, "pods that nobody reaches", isolation.all_ingress_blocked),
    Check("policies/all-egress-blocked", _I, "pods that reach nobody", isolation.all_egress_blocked),
    Check("policies/policies-without-effect", _W, "all policies together deny nothing", isolation.without_effect),
    # who decides first
    Check("policies/tier-never-reached", _W, "an earlier tier leaves nothing to a policy", order.starved),
    Check("policies/shadowed-policy", _W, "earlier policies decide all that a policy matches", order.shadowed_policy),
    Check("policies/shadowed-rule", _W, "earlier rules decide all that a rule matches", order.shadowed_rule),
    Check("policies/redundant-policy", _W, "a policy changes no verdict", order.redundant_policy),
    Check("policies/redundant-rule", _W, "a rule changes no verdict", order.redundant_rule),
    Check("policies/order-tie", _W, "names decide between policies of one order", order.order_tie),
    Check("policies/tier-tie", _W, "names decide between tiers of one order", order.tier_tie),
    Check("policies/pass-from-last-tier", _W, "Pass where no tier follows", order.last_pass),
    Check("policies/empty-tier", _I, "a tier without policies", order.empty_tier),
    # objects and fields
    Check("policies/duplicate-policy", _W, "policies that differ in name only", objects.duplicates),
    Check("policies/staged-already", _I, "a staged policy that is enforced already", objects.staged_twin),
    Check("policies/staged-delete-nothing", _W, "the staged removal of what does not exist", objects.staged_delete),
    Check("policies/unused-set", _I, "an address set that no rule selects", objects.unused_set),
    Check("policies/empty-set", _W, "an address set without addresses", objects.empty_set),
    Check("policies/closed-host-endpoint", _W, "a host endpoint without policy and profile", objects.closed_host),
    Check("policies/unknown-node", _W, "a host endpoint of a node that does not exist", objects.unknown_node),
    Check(
        "policies/rules-without-type", _E, "rules of a direction that the types leave out", objects.rules_without_type
    ),
    Check("policies/types-left-out", _I, "a policy without `policyTypes`", objects.types_left_out),
    Check("policies/namespace-left-out", _I, "a manifest without namespace", objects.namespace_left_out),
)


def lint(snapshot: Snapshot, policies: PolicySet, only: Collection[str] = ()) -> Problems:
    """Everything that the checks find, by place. `only`: the codes of the checks to run, where not all.

    Enforced policies are judged by what they do; of staged ones, what they say.
    """
    context = Context(snapshot, policies)
    return ordered(
        check.problem(finding) for check in CHECKS if not only or check.code in only for finding in check.run(context)
    )
