"""The Ruby that runs in `record_modifier` filters, made from data.

Every text of ours stands in double quotes with backslashes, quotes and `#` escaped, so that no
declared key or label can become code. `tests/real/test_fluentd_ruby.py` runs what is made here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from pilothouse.labels import LabelSelector, Requirement

JSON_FIELDS = (
    '${m = record["message"].to_s.scrub; '
    'v = (m.lstrip.start_with?("{") ? (JSON.parse(m) rescue nil) : nil); '
    "v.is_a?(Hash) ? v : {}}"
)
"""A record's fields when its line is a JSON object, otherwise none: the line itself stays in `message`."""

LOGFMT_FIELDS = (
    r'${record["message"].to_s.scrub.scan(/([^\s="]+)=("(?:[^"\\]|\\.)*"|[^\s"]*)/)'
    r'.map { |k, v| [k, v.start_with?("\"") ? v[1..-2].gsub(/\\(.)/, "\\1") : v] }.to_h}'
)
"""The fields of a `key=value key="some words"` line."""

TO_CLEAN = {"message": '${@clean.call(record["message"])}', "data": '${@clean.call(record["data"])}'}
"""What `cleaner` prepares is called with: everything of a record that a program wrote."""


def string(text: str) -> str:
    """A Ruby string in double quotes, in which nothing is evaluated."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("#", "\\#") + '"'


def strings(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(string, texts))}]"


def regexp(text: str) -> str:
    """A text as part of a Ruby regular expression that matches exactly it."""
    return "".join(
        char
        if char.isalnum() or char == "_" or ord(char) > 127
        else f"\\x{ord(char):02x}"
        if char in "\r\n\t\f\v /#"
        else f"\\{char}"
        for char in text
    )


def first_field(names: Sequence[str], otherwise: str = "nil") -> str:
    """The first of these fields of `data` that is there, as text."""
    return (
        f'${{d = record["data"] || {{}}; k = {strings(names)}.find {{ |n| !d[n].nil? }}; k ? d[k].to_s : {otherwise}}}'
    )


def cleaner(keys: Sequence[str], mask: str) -> str:
    """Prepares `@clean`, which masks the values of these keys at any depth and in text."""
    known = ", ".join(f"{string(key)} => true" for key in keys)
    names = "|".join(regexp(key) for key in sorted(keys, key=lambda key: (-len(key), key)))
    # key, quote, separator; then a quoted text, a scheme and its token, digits in groups, or one word.
    pattern = (
        rf"((?<![a-z0-9_])(?:\\*[\"'])?(?:{names})(?:\\*[\"'])?\s*[:=]\s*)"
        r"(?:\\*\"(?:[^\"\\]|\\[^\"])*\\*\"|'[^']*'|(?:bearer|basic)\s+[^\s\"',;]+"
        r"|[0-9](?:[0-9]|[ -](?=[0-9])){6,}[0-9]|[^\s,;&}\])\"']+)"
    )
    return (
        f"@keys = {{{known}}}; @text = /{pattern}/i; @mask = {string(mask)}; "
        "@clean = lambda { |v| case v "
        "when Hash then v.each_with_object({}) { |(k, x), h| h[k] = @keys[k.to_s.downcase] ? @mask : @clean.call(x) } "
        "when Array then v.map { |x| @clean.call(x) } "
        "when String then v.scrub.gsub(@text) { $1 + @mask } "
        "else v end }"
    )


def condition(selector: LabelSelector) -> str:
    """Whether the labels `l` fit a selector."""
    parts = [f"l[{string(key)}] == {string(value)}" for key, value in selector.match_labels]
    parts += [_requirement(item) for item in selector.match_expressions]
    return " && ".join(parts) or "true"


def _requirement(item: Requirement) -> str:
    key = string(item.key)
    match item.operator:
        case "In":
            return f"{strings(item.values)}.include?(l[{key}])"
        case "NotIn":
            return f"!{strings(item.values)}.include?(l[{key}])"
        case "Exists":
            return f"l.key?({key})"
        case _:
            return f"!l.key?({key})"


def route(choices: Sequence[tuple[LabelSelector, str]], otherwise: str) -> str:
    """The route of a record by its pod's labels.

    One lookup serves all selectors of a single label, which nearly all are; the others are tried in turn.
    """
    simple: dict[str, list[tuple[str, str]]] = {}
    counted = Counter(
        selector.match_labels[0][0]
        for selector, _ in choices
        if len(selector.match_labels) == 1 and not selector.match_expressions
    )
    rest: list[str] = []
    for selector, target in choices:
        if len(selector.match_labels) == 1 and not selector.match_expressions:
            key, value = selector.match_labels[0]
            simple.setdefault(key, []).append((value, target))
        else:
            rest.append(f"({condition(selector)} ? {string(target)} : nil)")
    lookups = [
        f"(case l[{string(key)}] "
        + " ".join(f"when {string(value)} then {string(target)}" for value, target in simple[key])
        + " end)"
        for key in sorted(simple, key=lambda key: (-counted[key], key))
    ]
    # The narrower selectors first: a single label is the widest that a selector can be.
    found = " || ".join([*rest, *lookups, string(otherwise)])
    return f'${{l = (record["kubernetes"] || {{}})["labels"] || {{}}; {found}}}'


def pod_names(kind: str, name: str) -> str:
    """A regular expression (without anchors) of the names of a workload's pods.

    https://kubernetes.io/docs/concepts/workloads/controllers/: generated suffixes are five of
    `bcdfghjklmnpqrstvwxz2456789`; a Deployment's pods carry the hash of its ReplicaSet before it.
    """
    suffix = "[a-z0-9]{5}"
    match kind:
        case "Deployment":
            return f"{re.escape(name)}-[a-z0-9]+-{suffix}"
        case "StatefulSet":
            return f"{re.escape(name)}-[0-9]+"
        case "CronJob":
            return f"{re.escape(name)}-[0-9]+-{suffix}"
        case _:
            return f"{re.escape(name)}-{suffix}"
