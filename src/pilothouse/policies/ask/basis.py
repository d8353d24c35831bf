"""Why an answer is what it is, where that is not a policy's rule: short sentences, each with the page that says so."""

from __future__ import annotations

from dataclasses import dataclass

KUBERNETES = "https://kubernetes.io/docs/concepts/services-networking/network-policies/"
SERVICES = "https://kubernetes.io/docs/concepts/services-networking/service/"
SOURCE_IP = "https://kubernetes.io/docs/tutorials/services/source-ip/"
FELIX = "https://docs.tigera.io/calico/latest/reference/resources/felixconfig"
CALICO = "https://docs.tigera.io/calico/latest/reference/resources/networkpolicy"
ENDPOINTS = "https://docs.tigera.io/calico/latest/reference/resources/workloadendpoint"
HOSTS = "https://docs.tigera.io/calico/latest/reference/resources/hostendpoint"
TIERS = "https://docs.tigera.io/calico/latest/reference/resources/tier"


@dataclass(frozen=True, slots=True)
class Basis:
    """One sentence without a full stop, and the public page that it follows from ("" where it is about the input)."""

    sentence: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.sentence} ({self.source})" if self.source else self.sentence


BOTH_ENDS = Basis("a connection needs the source's egress and the destination's ingress to allow it", KUBERNETES)
OUTSIDE = Basis("no policy holds between two addresses that are no endpoints", KUBERNETES)
HTTP = Basis("an `http` match lets some requests of the connection through and not others", CALICO)
FAMILIES = Basis("the two ends have no address family in common", SERVICES)

OWN_POD = Basis("a pod cannot shut itself out: what it sends to itself never leaves it", KUBERNETES)
OWN_POD_OPEN = Basis("Kubernetes does not say whether policies hold for what a pod sends to itself", KUBERNETES)
FROM_OWN_NODE = Basis("traffic from its own node always reaches a pod, so that probes do", KUBERNETES)
TO_OWN_NODE = Basis("Kubernetes lets a pod reach its own node whatever the policies say", KUBERNETES)
TO_OWN_NODE_CALICO = Basis(
    "Calico applies the pod's egress policies to traffic to its own node, and then not the node's own but"
    " `defaultEndpointToHostAction` of Felix, which no policy says",
    FELIX,
)

BLOCK_ON_POD = Basis("Kubernetes does not say whether an `ipBlock` matches the addresses of pods", KUBERNETES)
BLOCK_ON_POD_CALICO = Basis("Calico matches an `ipBlock` by address, pods too", CALICO)
OTHER_PROTOCOL = Basis(
    "Kubernetes defines its policies for TCP, UDP and SCTP, and leaves other protocols to the plugin", KUBERNETES
)
OTHER_PROTOCOL_CALICO = Basis("in Calico isolation, and a rule without ports, are for every protocol", CALICO)
HOST_NETWORK = Basis("Kubernetes leaves open whether policies select pods on the host's network", KUBERNETES)
HOST_NETWORK_CALICO = Basis(
    "a pod on the host's network is no endpoint: no policy selects it, and its traffic has the node's address",
    ENDPOINTS,
)
AFTER_DNAT = Basis(
    "policies see a connection to a Service after its address and port became those of a pod", KUBERNETES
)
BEFORE_OR_AFTER_DNAT = Basis(
    "Kubernetes leaves open whether an `ipBlock` is held against the Service's address or the pod's", KUBERNETES
)
SOURCE_REWRITTEN = Basis(
    "a connection that enters through another node may have that node's address as its source, unless the Service has"
    " `externalTrafficPolicy: Local`",
    SOURCE_IP,
)
NOT_READY = Basis("only ready backends get connections", SERVICES)
HEADLESS = Basis("a headless Service is only names: connections go to its pods' own addresses and ports", SERVICES)
LATER = Basis("no such pod runs; this holds for any that may", KUBERNETES)
