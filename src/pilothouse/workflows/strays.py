"""What the text of a proposal changes besides the service that it is about: a proposal may carry nothing else.

It is looked at and agreed to for one service. Otherwise a second document in the same file, an access profile for
example, would be committed without those whom it concerns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from pilothouse.platform import documents
from pilothouse.platform.model import Platform, Service, ServicePeer
from pilothouse.problems import Place, Problem, error
from pilothouse.source import Source


def of(before: Platform, after: Platform, service: Service, path: str, texts: tuple[str, str]) -> list[Problem]:
    """One problem for each other thing that differs. `texts` are the file's at `path`, as it was and as it would be."""
    return [
        error(
            "egress/another-document",
            f"the text changes {what} as well, and this proposal is about {service.key} alone",
            place if place.path else Place(path),
            "take that out, and change it in a proposal or a commit of its own",
        )
        for what, place in (*_extends(path, texts), *_values(before, after, service, path))
    ]


def gone(service: Service) -> Problem:
    """The text no longer holds the service at all."""
    return error(
        "egress/another-service",
        f"the text no longer declares {service.key}",
        replace(service.place, excerpt=""),
        "keep its kind, name and namespace: a rename is a new service",
    )


def _extends(path: str, texts: tuple[str, str]) -> Iterator[tuple[str, Place]]:
    """What a folder extends is taken from the disk, so that the values do not show it."""
    was, now = (documents.read((Source(path, text),)).extends for text in texts)
    if [item.folder for item in was] != [item.folder for item in now]:
        yield "what the platform extends", now[0].place if now else Place(path)


def _values(before: Platform, after: Platform, service: Service, path: str) -> Iterator[tuple[str, Place]]:
    cut_short = bool(after.unreadable - before.unreadable)  # an error of its own: what is missing was not taken away
    for item in fields(Platform):
        was, now = getattr(before, item.name), getattr(after, item.name)
        if not item.compare or was == now:
            continue
        if not isinstance(was, Mapping):
            yield f"the platform's {item.name}", Place(path)
            continue
        for key in sorted({*was, *now}):
            old, new = was.get(key), now.get(key)
            if old == new or (item.name == "services" and key == service.key):
                continue
            if isinstance(old, Service) and isinstance(new, Service) and _is_other_end(old, new, service):
                continue  # a service of the same file that changed along
            if new is not None or not cut_short:
                yield f"{item.name.removesuffix('s')} {key}", new.place if new else Place(path)


def _is_other_end(old: Service, new: Service, service: Service) -> bool:
    """Whether the two differ in nothing but what their lists of `ingress` say about the service."""
    if old.ingress is None or new.ingress is None or replace(old, ingress=None) != replace(new, ingress=None):
        return False
    us = ServicePeer(service.namespace, service.name)
    before, after = ([edge for edge in end.ingress or () if edge.peer != us] for end in (old, new))
    return before == after
