"""The network as policies make it: who reaches whom beside what is declared, and what enforcing a namespace would cut.

Single questions are `network_ask`. All of them show two states: as the policies hold now, and as if every governed
namespace were enforced.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, abort, render_template, request, url_for
from markupsafe import Markup

from pilothouse.policies.compare import picture
from pilothouse.policies.compare.beside import Beside
from pilothouse.policies.compare.map import Link, Map, Only
from pilothouse.policies.edges import ServiceEdge
from pilothouse.policies.parties import Kind, Party
from pilothouse.policies.rules import Direction
from pilothouse.portal.frame import NavItem, Portal, live, me, store
from pilothouse.portal.pictures.neighbours import draw
from pilothouse.portal.routing import chosen_cluster
from pilothouse.portal.state import Live
from pilothouse.problems import Invalid, PilothouseError
from pilothouse.store import proposals
from pilothouse.store.proposals import Proposal
from pilothouse.workflows import network as workflow
from pilothouse.workflows import proposals as steps
from pilothouse.workflows.network import Adoption, Network

blueprint = Blueprint("network", __name__, url_prefix="/network")
NAV = (NavItem("Network", "network.index", 17, "Answers"),)
MOST_ROWS = 300
"""More connections than this are counted: a filter or the command line shows the rest."""
MOST_DRAWN = 300
"""With more parties than that no picture is drawn at once: its matrix would have cells of a pixel."""
MOST_LISTED = 60


def start(state: Portal) -> None:
    state.current.warmers.append(_warm)


def _warm(found: Live, cluster: str) -> None:
    """The cluster that pages show where none is named is ready before anybody asks."""
    if cluster == found.main_cluster:
        found.network(cluster).site()


@dataclass(frozen=True)
class Where:
    """What the page is about. `reason` says why nothing is known of the cluster's network."""

    cluster: str
    enforced: bool
    network: Network | None = None
    reason: str = ""
    hint: str = ""

    @property
    def clusters(self) -> tuple[str, ...]:
        return live().clusters

    @property
    def query(self) -> dict[str, Any]:
        """What links to other pages of the network take along."""
        return {"cluster": self.cluster} | ({"enforced": "yes"} if self.enforced else {})

    def can(self, source: str, destination: str, port: str = "", *, edits: bool = False) -> str:
        """The address of a question, in this cluster and state."""
        asked: dict[str, Any] = {
            "from": source,
            "to": destination,
            "port": port or None,
            "edits": "yes" if edits else None,
        }
        return url_for("network_ask.can", **self.query, **asked)

    def of(self, key: str) -> str:
        """The address of a service's map."""
        namespace, _, name = key.partition("/")
        return url_for("network.service", namespace=namespace, name=name, **self.query)

    def command(self, *words: str, preview: bool = True) -> str:
        """The command line's twin."""
        tail = ["--preview"] if preview and self.enforced else []
        return shlex.join(["pilothouse", "policies", *words, "--cluster", self.cluster, *tail])


def where() -> Where:
    """The cluster and state of this request's address, with its network where that is known."""
    cluster, enforced = chosen_cluster(), request.args.get("enforced") == "yes"
    if not cluster:
        return Where("", enforced, reason="no cluster is declared", hint="declare one: docs/declarations.md")
    try:
        return Where(cluster, enforced, live().network(cluster))
    except PilothouseError as failure:
        return Where(cluster, enforced, None, failure.message, failure.hint)


def nothing(here: Where, key: str = "") -> str:
    """The page that says why nothing is known."""
    return render_template("network/nothing.html", here=here, key=key)


# ---------------------------------------------------------------- the map of a cluster


@blueprint.get("/")
def index() -> str:
    """Who reaches whom on a cluster, all of it or one team's."""
    here = where()
    if here.network is None:
        return nothing(here)
    services = sorted(here.network.inputs.platform.services_on(here.cluster), key=lambda item: item.key)
    teams = sorted({item.team for item in services})
    team = _team(here.cluster, teams, many=len(services) > MOST_LISTED)
    reason = ""
    try:
        found = here.network.map(Only(team=team), enforced=here.enforced)
    except Invalid as failure:
        found, reason = Map(), failure.message
    drawn = sum(1 for item in found.members if item.pods) <= MOST_DRAWN
    rows = found.links[:MOST_ROWS]
    return render_template(
        "network/map.html",
        here=here,
        team=team,
        teams=teams,
        found=found,
        reason=reason,
        drawing=_drawing(found) if drawn and found.links else "",
        rows=rows,
        more=len(found.links) - len(rows),
        open_ends=_open_ends(found),
        services=[item.key for item in services],
        command=here.command("map", "PLATFORM", *(("--team", team) if team else ())),
    )


def _team(cluster: str, teams: Iterable[str], *, many: bool) -> str:
    """The team of the address; where nothing is said and there is much to see, one of the person's own."""
    asked = request.args.get("team")
    if asked is None:
        return next((name for name in teams if name in me().teams), "") if many else ""
    if asked and asked not in teams:
        abort(404, f"no service of team {asked} runs on {cluster}")
    return asked


def _drawing(found: Map) -> Markup:
    return Markup(picture.draw(found, alone=False))  # noqa: S704  # our own drawing, which escapes every text


def _open_ends(found: Map) -> Mapping[str, tuple[str, ...]]:
    """Direction → whom nothing isolates in it."""
    return {
        direction.value: tuple(party.name for party in free)
        for direction in Direction
        if (free := found.not_isolated(direction))
    }


# ---------------------------------------------------------------- the map of a service


@dataclass(frozen=True, slots=True)
class Reached:
    """One connection of a service: the other end, and the declarations that name it."""

    link: Link
    other: Party
    because: tuple[ServiceEdge, ...]

    @property
    def key(self) -> str:
        return self.other.name if self.other.kind is Kind.SERVICE else ""


@blueprint.get("/service/<namespace>/<name>")
def service(namespace: str, name: str) -> str:
    """Who reaches one service and whom it reaches, by what policies allow, beside what is declared."""
    key = f"{namespace}/{name}"
    item = live().platform.services.get(key)
    if item is None:
        abort(404, f"no service {key} is declared")
    here = where()
    if here.network is None:
        return nothing(here, key)
    reason = hint = ""
    try:
        found = here.network.map(Only(service=key), enforced=here.enforced)
    except Invalid as failure:
        found, reason = Map(), failure.message
        hint = "" if item.runs_on(here.cluster) else f"it is not declared to run on {here.cluster}"
    sides = {direction: _reached(here.network, found, key, direction) for direction in Direction}
    return render_template(
        "network/service.html",
        here=here,
        service=item,
        reason=reason,
        hint=hint,
        drawing="" if reason else _around(here, here.network, key),
        sides=[
            ("Whom it reaches", "To", sides[Direction.EGRESS]),
            ("Who reaches it", "From", sides[Direction.INGRESS]),
        ],
        most=MOST_ROWS,
        beside=Beside() if reason else here.network.beside(key, enforced=here.enforced),
        most_listed=MOST_LISTED,
        mode=here.network.modes.get(item.namespace),
        unheard=[each for each in here.network.edges.disagreements if each.source == key],
        knocking=[each for each in here.network.edges.disagreements if each.destination == key],
        proposals=_about(key, item.place.path),
        command=here.command("map", "PLATFORM", "--service", key),
    )


def _around(here: Where, network: Network, key: str) -> Markup:
    svg = draw(key, network.neighbours(key, enforced=here.enforced), here.of, "network")
    return Markup(svg)  # noqa: S704  # our own drawing, which escapes every text


def _reached(network: Network, found: Map, key: str, direction: Direction) -> list[Reached]:
    return [
        Reached(link, other, network.because(key, other.name, direction))
        for link, other in workflow.reached(found, key, direction)
    ]


def _about(key: str, path: str) -> list[Proposal]:
    """Submitted proposals that change the document of a service: its own, and those that ask it to let others in."""
    return [
        item
        for item in proposals.awaiting(store())
        if item.draft.subject == key or (path and path in steps.files_of(item))
    ]


# ---------------------------------------------------------------- adoption


@blueprint.get("/adoption")
def adopting() -> str:
    """How far each namespace is governed, and what enforcing it would cut."""
    here = where()
    if here.network is None:
        return nothing(here)
    found = adoption_of(here.network)
    flows = [word for name in found.observed.files for word in ("--flows", f"PLATFORM/{name}")]
    return render_template(
        "network/adoption.html",
        here=here,
        found=found,
        empty=here.network.inputs.snapshot.is_empty,
        document=here.network.inputs.cluster.place,
        most=MOST_LISTED,
        command=here.command("adoption", "PLATFORM", *flows, preview=False),
    )


def adoption_of(network: Network) -> Adoption:
    """Made once for each platform that was loaded."""
    root = live().root
    return live().derived(
        f"adoption:{network.cluster}", lambda: network.adoption(workflow.observed(root, network.cluster))
    )
