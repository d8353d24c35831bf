from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.labels import LabelSelector, Requirement
from pilothouse.policies import addresses
from pilothouse.policies.manifests import calico_selector
from pilothouse.policies.selectors import parse

labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
requirements = st.one_of(
    st.builds(
        Requirement,
        st.sampled_from("ab"),
        st.sampled_from(["In", "NotIn"]),
        st.lists(st.sampled_from("xy"), min_size=1, max_size=2).map(tuple),
    ),
    st.builds(Requirement, st.sampled_from("ab"), st.sampled_from(["Exists", "DoesNotExist"])),
)


@given(labels, st.lists(requirements, max_size=2), labels)
def test_a_selector_means_the_same_in_calico_s_grammar(
    equal: dict[str, str], exprs: list[Requirement], candidate: dict[str, str]
) -> None:
    selector = LabelSelector(tuple(sorted(equal.items())), tuple(exprs))
    assert parse(calico_selector(selector)).matches(candidate) is selector.matches(candidate)


def test_ranges_less_others() -> None:
    taken = tuple(map(ip_network, ("10.0.0.0/9", "10.128.0.0/9", "192.168.0.0/16", "fd00::/8")))
    assert addresses.without(ip_network("10.1.0.0/16"), taken) is None
    assert addresses.without(ip_network("10.0.0.0/8"), taken) is None
    block = addresses.without(ip_network("0.0.0.0/0"), taken)
    assert block is not None
    assert [str(net) for net in block.excluded] == ["10.0.0.0/8", "192.168.0.0/16"]
    public = addresses.public(taken, (ip_network("2001:db8::/32"),))
    assert [str(item.network) for item in public] == ["0.0.0.0/0", "::/0"]
    assert [str(net) for net in public[1].excluded] == ["2001:db8::/32", "fd00::/8"]
    assert addresses.is_private(ip_network("10.0.0.0/8"), taken, ())
    assert not addresses.is_private(ip_network("8.0.0.0/6"), taken, ())
