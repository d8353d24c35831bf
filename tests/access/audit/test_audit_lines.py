"""Lines of both logs become records; what is broken says why."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.access_values import authority, template
from support.audit_logs import DECIMAL, PRINT, binding_change, encoded, event, node, read_line, vault_line

from pilothouse.access.audit import certain
from pilothouse.access.audit.lines import kind_of, moment, parse, serial_of
from pilothouse.access.audit.model import ClusterRecord, Kind, Span, VaultRecord
from pilothouse.access.audit.spans import Cover, gaps, merged
from pilothouse.access.certificates import fingerprint, pem, sign


def cluster(line: dict[str, Any]) -> ClusterRecord:
    record = parse(Kind.KUBERNETES, encoded(line))
    assert isinstance(record, ClusterRecord)
    return record


def vault(line: dict[str, Any]) -> VaultRecord:
    record = parse(Kind.VAULT, encoded(line))
    assert isinstance(record, VaultRecord)
    return record


def test_a_signature_of_vault() -> None:
    record = vault(vault_line())
    assert (record.user, record.common_name, record.serial, record.mount) == ("alice", "alice", DECIMAL, "pki-vaulted")
    assert not record.workload
    assert not record.hidden
    assert record.at == datetime(2026, 11, 21, 8, 0, 0, 0, UTC)
    assert certain.signs(record, ["pki-vaulted"])
    assert not certain.signs(record, ["pki-other"])


def test_the_certificate_itself_says_serial_and_fingerprint() -> None:
    leaf = sign(template(), *authority())
    record = vault(vault_line(response={"data": {"certificate": pem(leaf), "serial_number": "00:01"}}))
    assert record.serial == str(leaf.serial_number)
    assert record.fingerprint == fingerprint(leaf)


def test_serials_that_the_log_hides() -> None:
    record = vault(vault_line(response={"data": {"serial_number": "hmac-sha256:aa", "certificate": "hmac-sha256:bb"}}))
    assert record.hidden
    assert record.serial == ""
    assert certain.signs(record, ["pki-vaulted"])


@pytest.mark.parametrize(
    "path", ["sign-verbatim", "issue/x", "issuer/default/sign/x", "root/sign-intermediate", "sign-self-issued"]
)
def test_every_way_to_a_signature(path: str) -> None:
    assert certain.signs(vault(vault_line(request__path=f"pki-vaulted/{path}")), ["pki-vaulted"])
    refused = vault(vault_line(request__path=f"pki-vaulted/{path}", error="permission denied", response={}))
    assert not certain.signs(refused, ["pki-vaulted"])


def test_reading_a_certificate_is_no_signature() -> None:
    assert not certain.signs(vault(vault_line(request__path="pki-vaulted/cert/3a-0f")), ["pki-vaulted"])


def test_a_workload_is_told_by_its_account() -> None:
    record = vault(read_line(0, "payments/database"))
    assert (record.user, record.workload, record.path) == (
        "payments/payments",
        True,
        "kv-vaulted/data/payments/database",
    )


def test_an_event_of_the_api_server() -> None:
    record = cluster(event())
    assert (record.user, record.verb, record.resource, record.namespace) == ("alice", "list", "pods", "payments")
    assert record.fingerprint == PRINT
    assert record.address == "10.1.2.3"  # not what a header claims
    assert certain.is_of_use(record)
    assert not certain.bears_system_name(record)


def test_a_client_that_reuses_an_audit_id_does_not_hide_behind_it() -> None:
    first = cluster(event(0, auditID="chosen"))
    second = cluster(event(1, auditID="chosen"))
    assert first.key != second.key
    assert first.key == cluster(event(0, auditID="chosen")).key


def test_what_of_a_log_is_of_use() -> None:
    assert not certain.is_of_use(cluster(node(0)))
    plain = {"username": "bob", "groups": ["system:authenticated"]}
    assert not certain.is_of_use(cluster(event(user=plain)))
    assert parse(Kind.KUBERNETES, encoded(event(stage="RequestReceived"))) is None


@pytest.mark.parametrize(
    ("user", "groups", "wanted"),
    [
        ("root", ["system:masters"], True),
        ("system:node:n1", ["system:nodes", "system:masters"], True),
        ("system:node:n1", ["system:nodes"], False),
        ("system:kube-scheduler", [], False),
        ("system:somebody", [], True),
        ("SYSTEM:masters", [], True),
        ("alice", ["ph:developer", "system:masters"], True),
    ],
)
def test_names_of_kubernetes_own(user: str, groups: list[str], wanted: bool) -> None:
    record = cluster(event(user__username=user, user__groups=[*groups, "system:authenticated"]))
    assert certain.bears_system_name(record) is wanted


def test_names_of_kubernetes_own_without_a_certificate() -> None:
    """The token of a component is no client certificate."""
    user = {"username": "root", "groups": ["system:masters"]}
    assert not certain.bears_system_name(cluster(event(user=user)))


def test_changes_of_our_rbac() -> None:
    assert certain.changes_ours(cluster(binding_change(0, "mallory")))
    assert not certain.changes_ours(cluster(binding_change(0, "mallory", name="theirs")))
    assert not certain.changes_ours(cluster(binding_change(0, "mallory", verb="get")))
    assert not certain.changes_ours(cluster(binding_change(0, "mallory", responseStatus={"code": 403})))
    assert not certain.changes_ours(cluster(binding_change(0, "mallory", requestURI="/x?dryRun=All")))
    assert certain.changes_ours(cluster(binding_change(0, "mallory", name="", verb="deletecollection")))


def test_which_program_wrote_a_line() -> None:
    assert kind_of(encoded(event())) is Kind.KUBERNETES
    assert kind_of(encoded(vault_line())) is Kind.VAULT
    for other in (b"", b"{", b"[]", b"{}", b'{"type": "request"}', b"[" * 100_000):
        assert kind_of(other) is None


@pytest.mark.parametrize(
    ("kind", "line", "why"),
    [
        (Kind.VAULT, b"{", "no JSON"),
        (Kind.VAULT, b"[1]", "no JSON object"),
        (Kind.VAULT, encoded(vault_line(type="x")), "neither request nor response"),
        (Kind.VAULT, encoded(vault_line(request__id="")), "no request.id"),
        (Kind.VAULT, encoded(vault_line(time=5)), "no time"),
        (Kind.KUBERNETES, encoded(event(kind="Pod")), "no event of audit.k8s.io"),
        (Kind.KUBERNETES, encoded(event(auditID=None)), "no auditID"),
        (Kind.KUBERNETES, encoded(event(requestReceivedTimestamp="yesterday")), "cannot be read"),
        (Kind.KUBERNETES, encoded(event(requestReceivedTimestamp="2026-11-21T08:00:00")), "no zone"),
        (Kind.KUBERNETES, b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_line_says_what_is_wrong(kind: Kind, line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(kind, line)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(event()) + sorted(vault_line())), value=_VALUES)
def test_whatever_stands_in_a_field_it_is_a_record_or_a_reason(key: str, value: Any) -> None:
    for kind, line in ((Kind.KUBERNETES, event()), (Kind.VAULT, vault_line())):
        record, why = None, ""
        try:
            record = parse(kind, json.dumps(line | {key: value}).encode())
        except ValueError as failure:
            why = str(failure)
        if why:
            assert record is None
        elif record is not None:
            assert record.at.tzinfo is not None


def test_what_a_terminal_would_obey_is_replaced() -> None:
    assert cluster(event(userAgent="kubectl\x1b[2J\n")).agent == "kubectl\ufffd[2J\ufffd"
    assert cluster(event(user__groups=["ph:a\0b"])).groups == ("ph:a\ufffdb",)


def test_serials_and_moments() -> None:
    assert serial_of("3A:0f") == "14863"
    assert serial_of("14863") == "14863"
    for other in ("", "3a0f", "x:y", ":", "g-abc", "1" * 51):
        assert serial_of(other) == ""
    assert moment("2026-11-21T09:00:00.123456789+01:00") == datetime(2026, 11, 21, 8, 0, 0, 123456, UTC)
    assert moment("2026-11-21T08:00:00.5Z").microsecond == 500_000


def test_covered_time_and_its_holes() -> None:
    begin, longest = datetime(2026, 11, 21, tzinfo=UTC), timedelta(minutes=15)
    cover = Cover(longest)
    for minutes in (0, 10, 20, 60, 70, 5):
        cover.add(begin + timedelta(minutes=minutes))
    assert [(i.since.minute, i.until.hour * 60 + i.until.minute) for i in cover.spans] == [(0, 20), (0, 70)]
    assert gaps(cover.spans, longest) == (Span(begin + timedelta(minutes=20), begin + timedelta(minutes=60)),)
    filled = [*cover.spans, Span(begin + timedelta(minutes=15), begin + timedelta(minutes=50))]
    assert gaps(filled, longest) == ()
    assert merged((), longest) == ()


@given(value=_VALUES)
def test_whatever_stands_in_a_part_it_is_a_record_or_a_reason(value: Any) -> None:
    for part in ("user__groups", "user__extra", "objectRef__name", "responseStatus__code"):
        assert cluster(event(**{part: value})).audit_id
    odd = event(user__extra={"authentication.kubernetes.io/credential-id": value})
    assert cluster(odd).fingerprint == ""
    for part in ("auth__metadata", "request__data", "request__path", "response__data"):
        assert vault(vault_line(**{part: value})).request_id
