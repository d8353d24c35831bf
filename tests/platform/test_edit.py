from __future__ import annotations

from datetime import date

import pytest
import yaml

from pilothouse.platform.edit import add_item, flow, remove_item, set_field
from pilothouse.problems import Invalid

HEAD = """\
# the payments service
apiVersion: pilothouse.dev/v1
kind: Service
metadata: {name: api, namespace: payments}
spec:
  team: payments
"""
BLOCK = (
    HEAD
    + """\
  egress:
    # the ledger
    - {to: {service: ledger/ledger}, ports: [grpc]}   # always
    - to:
        domain: a.example
      reason: |
        long
        text

    # the last one
    - {to: {cidr: 192.0.2.0/24}}
  # after the list
  metrics: {port: http}
---
kind: Team
"""
)
ITEM = {"to": {"domain": "b.example"}, "ports": [443, "8000-8100"], "reason": "yes", "expires": date(2027, 1, 31)}
WRITTEN = '{to: {domain: b.example}, ports: [443, "8000-8100"], reason: "yes", expires: 2027-01-31}'
KEY = "payments/api"


def egress(text: str) -> list[object]:
    found = next(iter(yaml.load_all(text, Loader=yaml.BaseLoader)))["spec"].get("egress")
    assert found is None or isinstance(found, list)
    return found or []


def test_an_item_is_added_after_the_last_and_comments_stay() -> None:
    text = add_item(BLOCK, KEY, "egress", ITEM)
    assert f"    - {{to: {{cidr: 192.0.2.0/24}}}}\n    - {WRITTEN}\n  # after the list\n" in text
    assert text.replace(f"    - {WRITTEN}\n", "") == BLOCK


@pytest.mark.parametrize("index", [0, 1, 2])
def test_an_item_is_removed_and_the_others_stay(index: int) -> None:
    before = egress(BLOCK)
    text = remove_item(BLOCK, KEY, "egress", index)
    assert egress(text) == before[:index] + before[index + 1 :]
    assert "# the ledger" in text
    assert "# after the list\n  metrics: {port: http}\n---\nkind: Team\n" in text


@pytest.mark.parametrize(
    "spec",
    ["", "  egress: []\n", "  egress:\n", "  egress: null\n", "  egress: []\n  metrics: {port: http}\n"],
)
def test_the_list_is_made_where_there_is_none(spec: str) -> None:
    text = add_item(HEAD + spec, KEY, "egress", ITEM)
    assert f"  egress:\n    - {WRITTEN}\n" in text
    assert egress(text) == [
        {"to": {"domain": "b.example"}, "ports": ["443", "8000-8100"], "reason": "yes", "expires": "2027-01-31"}
    ]
    assert "null" not in text


def test_a_list_in_flow_style_stays_one() -> None:
    text = (
        HEAD
        + "  egress: [{to: {apiServer: true}}, {to: {internet: true}},\n    {to: {cidr: 192.0.2.0/24}}]\n  ports: []\n"
    )
    added = add_item(text, KEY, "egress", {"to": {"service": "a/b"}})
    assert len(egress(added)) == 4
    assert added.endswith("    {to: {cidr: 192.0.2.0/24}}, {to: {service: a/b}}]\n  ports: []\n")
    for index in range(3):
        assert egress(remove_item(text, KEY, "egress", index)) == [x for i, x in enumerate(egress(text)) if i != index]


def test_with_the_last_item_the_list_goes() -> None:
    text = HEAD + "  egress:\n    - to:\n        service: a/b\n  ports: []\n"
    assert remove_item(text, KEY, "egress", 0) == HEAD + "  ports: []\n"


def test_a_dash_alone_on_its_line_goes_too() -> None:
    text = HEAD + "  egress:\n    -\n      to: {service: a/b}\n    - to: {service: a/c}\n"
    assert remove_item(text, KEY, "egress", 0) == HEAD + "  egress:\n    - to: {service: a/c}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BLOCK.replace("name: api", "name: other"), "not in this file"),
        ("kind: Service\nmetadata: x\nspec: {}\n---\n- a\n", "not in this file"),
        ("a: [", "cannot be read"),
        ("kind: Service\nmetadata: {name: api, namespace: payments}\nspec: {team: x}\n", "not written as a block"),
        (HEAD + "  egress: {a: b}\n", "is no list"),
    ],
)
def test_what_cannot_be_edited_is_said(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        add_item(text, KEY, "egress", ITEM)


def test_an_index_beyond_the_list_is_said() -> None:
    with pytest.raises(Invalid, match="no egress item 4"):
        remove_item(BLOCK, KEY, "egress", 3)
    with pytest.raises(Invalid, match="no egress item 1"):
        remove_item(HEAD, KEY, "egress", 0)


def test_flow_style_holds_every_kind_of_value() -> None:
    assert flow({"a": [True, False, None, 1.5, "x y", "1"]}) == '{a: [true, false, null, 1.5, x y, "1"]}'


def test_an_ingress_list_without_items_still_says_nobody() -> None:
    text = HEAD + "  ingress:\n    - {from: {service: a/b}}\n"
    emptied = remove_item(text, KEY, "ingress", 0)
    assert emptied == HEAD + "  ingress: []\n"
    assert add_item(emptied, KEY, "ingress", {"from": {"service": "a/b"}}) == text


def test_a_comment_goes_behind_the_item() -> None:
    head = "kind: Service\nmetadata: {name: a, namespace: n}\nspec:\n"
    item = {"to": {"service": "n/b"}}
    found = add_item(head + "  team: t\n", "n/a", "egress", item, "seen\ntwice")
    assert found == head + "  team: t\n  egress:\n    - {to: {service: n/b}}  # seen twice\n"
    inline = add_item(head + "  egress: [{to: {service: n/c}}]\n", "n/a", "egress", item, "seen")
    assert inline == head + "  # seen\n  egress: [{to: {service: n/c}}, {to: {service: n/b}}]\n"


def test_what_is_said_of_an_empty_list_stays() -> None:
    head = "kind: Service\nmetadata: {name: a, namespace: n}\nspec:\n"
    found = add_item(head + "  ingress: []   # Nobody calls it.\n", "n/a", "ingress", {"from": {"service": "n/b"}})
    assert found == head + "  ingress:  # Nobody calls it.\n    - {from: {service: n/b}}\n"


CLUSTER = "kind: Cluster\nmetadata: {name: prod}\nspec:\n"
PLACE = ("enforcement", "namespaces", "shop")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  a: b  # why\n", "  a: b  # why\n  enforcement: {namespaces: {shop: enforced}}\n"),
        ("  enforcement:  # later\n  a: b\n", "  enforcement: {namespaces: {shop: enforced}}  # later\n  a: b\n"),
        ("  enforcement: {}\n", "  enforcement: {namespaces: {shop: enforced}}\n"),
        (
            "  enforcement: {default: staged}  # for now\n",
            "  enforcement: {default: staged, namespaces: {shop: enforced}}  # for now\n",
        ),
        (
            "  enforcement: {namespaces: {web: staged}, default: enforced}\n",
            "  enforcement: {namespaces: {web: staged, shop: enforced}, default: enforced}\n",
        ),
        (
            "  enforcement: {namespaces: {shop: 'staged', web: staged}}\n",
            "  enforcement: {namespaces: {shop: enforced, web: staged}}\n",
        ),
        (
            "  enforcement:\n    namespaces:\n      # The last one.\n      shop: staged  # until May\n  a: b\n",
            "  enforcement:\n    namespaces:\n      # The last one.\n      shop: enforced  # until May\n  a: b\n",
        ),
        (
            "  enforcement:\n    namespaces:\n      web: staged  # May\n    default: staged\n",
            "  enforcement:\n    namespaces:\n      web: staged  # May\n      shop: enforced\n    default: staged\n",
        ),
        (
            "  enforcement: {\n    namespaces: {\n      web: staged,  # one\n    },\n  }\n",
            "  enforcement: {\n    namespaces: {\n      web: staged, shop: enforced,  # one\n    },\n  }\n",
        ),
    ],
)
def test_one_field_is_set_and_the_rest_stays(before: str, after: str) -> None:
    assert set_field(CLUSTER + before, "Cluster", "prod", PLACE, "enforced") == CLUSTER + after


def test_a_field_is_set_in_its_own_document_alone() -> None:
    other = "kind: Cluster\nmetadata: {name: dev}\nspec:\n  a: b\n---\n"
    assert set_field(other + CLUSTER + "  a: b\n", "Cluster", "prod", ("a",), "c") == other + CLUSTER + "  a: c\n"
    with pytest.raises(Invalid, match="not in this file"):
        set_field(other, "Cluster", "prod", ("a",), "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  enforcement: staged\n", "`enforcement` of prod holds no fields"),
        ("  enforcement: {namespaces: {shop: [a]}}\n", "is not one word"),
    ],
)
def test_a_field_that_cannot_be_set_is_said(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        set_field(CLUSTER + text, "Cluster", "prod", PLACE, "enforced")
