"""A form's values and what is wrong with them: shown again with everything typed still there, status 422."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flask import request


class Form:
    """`form["reason"]` is what was typed; `form.error("reason", "say why")` marks a field ("" the form as a whole)."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values: dict[str, str] = dict(values or {})
        self.errors: dict[str, list[str]] = {}

    @classmethod
    def posted(cls, names: Iterable[str], limit: int = 200_000) -> Form:
        """The named fields of this request, stripped at both ends; one that is longer than `limit` is an error."""
        form = cls()
        for name in names:
            text = request.form.get(name, "").replace("\r\n", "\n")
            if len(text) > limit:
                form.error(name, f"longer than {limit:,} characters")
            form.values[name] = text.strip() if "\n" not in text else text
        return form

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")

    def error(self, name: str, message: str) -> None:
        self.errors.setdefault(name, []).append(message)

    def errors_of(self, name: str) -> list[str]:
        return self.errors.get(name, [])

    def require(self, **messages: str) -> None:
        """Mark each named field that is empty, with its message."""
        for name, message in messages.items():
            if not self[name].strip():
                self.error(name, message)
