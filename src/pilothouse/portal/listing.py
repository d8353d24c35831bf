"""Lists that are searched, sorted and paged; the whole state is in the address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from flask import request

Item = TypeVar("Item")
PER_PAGE = 50


@dataclass(frozen=True)
class Query:
    """What the address asks for: `q` the words searched, `sort` a column (`-column` downwards), `page` from 1.

    `filters` are the other parameters that the page knows, such as `team`.
    """

    q: str = ""
    sort: str = ""
    page: int = 1
    per_page: int = PER_PAGE
    filters: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    default_sort: str = ""

    @classmethod
    def of_request(
        cls, sorts: Iterable[str], default: str, filters: Iterable[str] = (), per_page: int = PER_PAGE
    ) -> Query:
        """Read from the address; what is not known there is ignored."""
        known = set(sorts)
        sort = request.args.get("sort", default)
        page = request.args.get("page", "1")
        return cls(
            request.args.get("q", "").strip()[:200],
            sort if sort.removeprefix("-") in known else default,
            min(max(1, int(page)), 100_000) if page.isdecimal() and len(page) < 7 else 1,
            per_page,
            {name: value for name in filters if (value := request.args.get(name, "").strip()[:200])},
            request.path,
            default,
        )

    @property
    def column(self) -> str:
        return self.sort.removeprefix("-")

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-")

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.per_page

    @property
    def is_narrowed(self) -> bool:
        return bool(self.q or self.filters)

    def url(self, **changes: Any) -> str:
        """This list with some parameters changed (None or "" removes one); any change but of `page` goes to page 1."""
        values: dict[str, Any] = {"q": self.q, "sort": self.sort, **self.filters, "page": self.page}
        if set(changes) - {"page"}:
            values["page"] = 1
        values |= changes
        if values["sort"] == self.default_sort:
            values["sort"] = ""
        if values["page"] == 1:
            values["page"] = ""
        query = urlencode([(name, value) for name, value in values.items() if value not in ("", None)])
        return f"{self.path}?{query}" if query else self.path

    def sort_url(self, column: str) -> str:
        """Sorted by that column; the other way round where it is already."""
        return self.url(sort=f"-{column}" if self.sort == column else column)

    def direction(self, column: str) -> str:
        """The value of `aria-sort` for a column."""
        if column != self.column:
            return "none"
        return "descending" if self.descending else "ascending"


@dataclass(frozen=True)
class Page(Generic[Item]):
    """One page of a list. `total` counts what the search and the filters left, `all` what there is."""

    items: Sequence[Item]
    total: int
    query: Query
    all: int = 0

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.query.per_page))

    @property
    def first(self) -> int:
        return self.query.offset + 1 if self.items else 0

    @property
    def last(self) -> int:
        return self.query.offset + len(self.items)


def page_of(
    items: Iterable[Item],
    query: Query,
    keys: Mapping[str, Callable[[Item], Any]],
    text: Callable[[Item], str],
    where: Callable[[Item], bool] = lambda _: True,
) -> Page[Item]:
    """Search (every word must occur in `text`, case ignored), filter, sort by `keys[column]`, cut out the page."""
    everything = list(items)
    words = query.q.casefold().split()
    found = [item for item in everything if where(item) and (not words or _has(text(item).casefold(), words))]
    key = keys.get(query.column)
    if key is not None:
        found.sort(key=key, reverse=query.descending)
    pages = max(1, -(-len(found) // query.per_page))
    query = replace(query, page=min(query.page, pages))
    return Page(found[query.offset : query.offset + query.per_page], len(found), query, len(everything))


def _has(text: str, words: Sequence[str]) -> bool:
    return all(word in text for word in words)
