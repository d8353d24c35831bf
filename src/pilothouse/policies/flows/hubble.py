"""Cilium's Hubble: events as `hubble observe -o json` (or `jsonpb`) and the exporter write them, one object a line.

Fields: https://docs.cilium.io/en/stable/_api/v1/flow/README/; an event stands within `flow`, in the older form alone.

Hubble does not count connections: it shows events, of which one connection makes several. Policy verdicts (event type
5) are made for the first packet of a connection, so where there are any, they are what is counted; without them,
every event is. Bytes and packets are unknown (0). An event is
no observation of its own, and is set aside by reason, when it is

- a reply (`is_reply`), or one forwarded of which Hubble does not know whether it is a reply,
- of layer 7 or of a socket, or not forwarded or dropped yet (traced, translated, in error),
- a drop for a reason other than policy, such as a malformed packet or an address without a route.

REDIRECTED (to the proxy) and AUDIT (would be denied were the audit mode off) are allowed. Events that Hubble lost
are counted in `lost`.
"""

from __future__ import annotations

from typing import Any

from pilothouse.policies.flows.model import Amounts, EndKind, FlowEnd, Labels, Observed, PolicyHit, Seen
from pilothouse.policies.flows.values import Unfit, address, mapping, moment, number, port, protocol, text
from pilothouse.policies.rules import Direction

_DIRECTIONS = {"EGRESS": Direction.EGRESS, 2: Direction.EGRESS, "INGRESS": Direction.INGRESS, 1: Direction.INGRESS}
_ALLOWED = frozenset(("FORWARDED", "REDIRECTED", "AUDIT", 1, 4, 5))
_DROPPED = frozenset(("DROPPED", 2))
_BY_POLICY = frozenset(("POLICY_DENIED", "POLICY_DENY", "AUTH_REQUIRED", 133, 181, 189))
_NOT_SAID = frozenset((None, "", 0, "DROP_REASON_UNKNOWN"))
_POLICY_VERDICT = 5
_HOSTS = frozenset(("host", "remote-node", "kube-apiserver"))
_OTHERS = ("node_status", "lost_events", "agent_event", "debug_event")


def record(data: dict[str, Any]) -> Seen | str:
    """The flow of one event, or why it is set aside. Raises `Unfit` for what is no event."""
    for name in _OTHERS:
        if name in data:
            return f"{name.replace('_', ' ')}, no flow"
    flow = mapping(data["flow"], "flow") if "flow" in data else data
    if "verdict" not in flow and "IP" not in flow and "l4" not in flow and "l7" not in flow:
        raise Unfit("this is no event of Hubble: it has neither `verdict` nor `IP`")
    verdict = _plain(flow.get("verdict"))
    aside = _aside(flow, verdict)
    return aside or _seen(flow, Observed.ALLOW if verdict in _ALLOWED else Observed.DENY)


def lost(data: dict[str, Any]) -> int:
    """How many events a line says that Hubble lost."""
    found = data.get("lost_events")
    return number(mapping(found, "lost_events").get("num_events_lost"), "num_events_lost") if found else 0


def _plain(value: Any) -> str | int | None:
    return value if isinstance(value, (str, int)) else None


def _aside(flow: dict[str, Any], verdict: str | int | None) -> str:
    """Why this event is none to count, "" where it is."""
    if flow.get("l7") or _plain(flow.get("Type")) in ("L7", 2):
        return "layer 7"
    if _plain(flow.get("Type")) in ("SOCK", 3):
        return "socket event"
    if flow.get("is_reply") is True or flow.get("reply") is True:
        return "reply"
    if verdict in _DROPPED:
        reason = _plain(flow.get("drop_reason_desc")) or _plain(flow.get("drop_reason"))
        return "" if reason in _BY_POLICY or reason in _NOT_SAID else "dropped for another reason than policy"
    if verdict not in _ALLOWED:
        return "no verdict yet"
    if flow.get("is_reply") is None and _event(flow) != _POLICY_VERDICT:
        return "perhaps a reply"
    return "" if "l4" in flow else "not IP, or no protocol known"


def _event(flow: dict[str, Any]) -> Any:
    return mapping(flow.get("event_type"), "event_type").get("type")


def _seen(flow: dict[str, Any], action: Observed) -> Seen | str:
    layers = mapping(flow.get("l4"), "l4")
    name = next((name for name, value in layers.items() if isinstance(value, dict)), "")
    if not name:
        return "not IP, or no protocol known"
    number_of = protocol(name, "l4")
    addresses = mapping(flow.get("IP"), "IP")
    source, destination = mapping(flow.get("source"), "source"), mapping(flow.get("destination"), "destination")
    through = mapping(flow.get("destination_service"), "destination_service")
    space, called = text(through.get("namespace"), "namespace"), text(through.get("name"), "name")
    when = moment(flow.get("time"), "time")
    direction = _plain(flow.get("traffic_direction"))
    return Seen(
        _end(source, addresses.get("source"), "source"),
        _end(destination, addresses.get("destination"), "destination"),
        number_of,
        port(layers[name].get("destination_port"), "destination_port", number_of),
        action,
        None if direction is None else _DIRECTIONS.get(direction),
        Amounts(started=1 if _event(flow) == _POLICY_VERDICT else 0, first=when, last=when),
        f"{space}/{called}" if space and called else "",
        _labels(source.get("labels")),
        _labels(destination.get("labels")),
        _hits(flow),
    )


def _end(data: dict[str, Any], ip: Any, side: str) -> FlowEnd:
    name = text(data.get("pod_name"), "pod_name")
    if name:
        return FlowEnd(EndKind.POD, text(data.get("namespace"), "namespace"), name)
    given = address(ip, f"IP.{side}")
    if not given:
        raise Unfit(f"the {side} has neither a pod nor an address")
    return FlowEnd(EndKind.HOST if _HOSTS & _reserved(data) else EndKind.ADDRESS, address=given)


def _strings(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Unfit("`labels` is no list")
    return [text(item, "labels") for item in value]


def _reserved(data: dict[str, Any]) -> set[str]:
    return {item.removeprefix("reserved:") for item in _strings(data.get("labels")) if item.startswith("reserved:")}


def _labels(value: Any) -> Labels:
    """The pod's own: `k8s:app=web`, without what Cilium adds (namespace, service account, cluster)."""
    found = (item.removeprefix("k8s:").partition("=") for item in _strings(value) if item.startswith("k8s:"))
    return tuple(
        sorted({(key, rest) for key, _, rest in found if not key.startswith(("io.cilium.", "io.kubernetes."))})
    )


def _hits(flow: dict[str, Any]) -> tuple[PolicyHit, ...]:
    found = []
    for name, action in (
        ("egress_allowed_by", "allow"),
        ("ingress_allowed_by", "allow"),
        ("egress_denied_by", "deny"),
        ("ingress_denied_by", "deny"),
    ):
        policies = flow.get(name)
        if policies is not None and not isinstance(policies, list):
            raise Unfit(f"`{name}` is no list")
        for item in policies or ():
            policy = mapping(item, name)
            found.append(
                PolicyHit(
                    text(policy.get("kind"), "kind"),
                    text(policy.get("name"), "name"),
                    text(policy.get("namespace"), "namespace"),
                    action=action,
                )
            )
    return tuple(found)
