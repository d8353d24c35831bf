"""Problems as text with a caret, as JSON and as SARIF."""

from __future__ import annotations

import json

from pilothouse import reports
from pilothouse.problems import Place, Problem, error, info, warning

LINE = "  podSelecto: {app: payments}"
UNKNOWN = error(
    "platform/unknown-field",
    "unknown field `podSelecto`",
    Place("services/a.yaml", 6, 3, 10, LINE),
    "did you mean `podSelector`?",
    related=(Place("services/b.yaml", 2, 1),),
    teams=("payments",),
    cluster="dev",
)


def lines(problem: Problem) -> list[str]:
    return reports.to_text([problem]).splitlines()


def test_nothing_is_no_text() -> None:
    assert reports.to_text([]) == ""
    assert reports.summary([]) == "no problems"


def test_a_problem_with_its_line_caret_and_hint() -> None:
    assert lines(UNKNOWN) == [
        "services/a.yaml",
        "",
        "services/a.yaml:6:3: error [platform/unknown-field] unknown field `podSelecto`",
        "  6 |   podSelecto: {app: payments}",
        "    |   ^~~~~~~~~~",
        "  hint: did you mean `podSelector`?",
        "  see also: services/b.yaml:2:1",
        "",
        "1 error in 1 file",
    ]


def test_problems_are_grouped_by_file_and_each_shown_once() -> None:
    text = reports.to_text(
        [error("a/b", "second", Place("b.yaml", 1, 1)), UNKNOWN, UNKNOWN, warning("a/c", "first", Place("a.yaml"))]
    )
    heads = [line for line in text.splitlines() if line in ("a.yaml", "b.yaml", "services/a.yaml")]
    assert heads == ["a.yaml", "b.yaml", "services/a.yaml"]
    assert text.count("podSelecto`") == 1
    assert text.endswith("2 errors, 1 warning in 3 files\n")


def test_a_problem_without_a_place() -> None:
    assert lines(info("a/b", "somewhere"))[0] == "the platform as a whole"
    assert "info [a/b] somewhere" in lines(info("a/b", "somewhere"))
    assert lines(info("a/b", "somewhere"))[-1] == "1 finding"


def test_a_place_without_an_excerpt_has_no_caret() -> None:
    assert not any("|" in line for line in lines(error("a/b", "x", Place("a.yaml", 3, 1))))


def test_a_line_without_a_column_has_no_caret() -> None:
    found = lines(error("a/b", "x", Place("a.yaml", 3, 0, 1, "key: value")))
    assert "  3 | key: value" in found
    assert not any("^" in line for line in found)


def test_tabs_before_the_caret_are_written_out() -> None:
    found = lines(error("a/b", "x", Place("a.yaml", 1, 3, 2, "\ta\tbad")))
    assert found[3] == "  1 |     a   bad"
    assert found[4] == "    |      ^~~~"


def test_wide_and_combining_characters_keep_the_caret_in_place() -> None:
    found = lines(error("a/b", "x", Place("a.yaml", 1, 5, 3, "名前: bad")))
    excerpt, caret = found[3], found[4]
    assert reports.len_columns(excerpt[: excerpt.index("ad")]) == caret.index("^") + 1
    assert reports.len_columns("e\u0301") == 1


def test_a_very_long_line_is_cut_around_the_caret() -> None:
    text = "x" * 300 + "BAD" + "y" * 300
    found = lines(error("a/b", "x", Place("a.yaml", 1, 301, 3, text)))
    excerpt, caret = found[3], found[4]
    assert len(excerpt) < 180
    assert excerpt.startswith("  1 | …x")
    assert excerpt.endswith("y…")
    assert excerpt[caret.index("^") :].startswith("BAD")
    assert caret.endswith("^~~")


def test_a_caret_beyond_the_end_of_its_line_stays_there() -> None:
    found = lines(error("a/b", "x", Place("a.yaml", 1, 9, 1, "a: [")))
    assert found[4].rstrip().endswith("^")


def test_control_characters_never_reach_the_terminal() -> None:
    text = reports.to_text([error("a/b", "red \033[31m", Place("a.yaml", 1, 1, 1, "x\033[0m"), "hint\nmore")])
    assert "\033" not in text
    assert "hint: hint more" in text


def test_colour_is_only_there_when_asked_for() -> None:
    plain, colored = reports.to_text([UNKNOWN]), reports.to_text([UNKNOWN], color=True)
    assert "\033[31;1m^" in colored
    assert "\033" not in plain


def test_json_has_everything() -> None:
    data = json.loads(reports.to_json([UNKNOWN, warning("a/b", "w")]))
    assert data["summary"] == {"error": 1, "warning": 1, "info": 0}
    assert data["problems"][0]["place"] is None
    assert data["problems"][1] == {
        "code": "platform/unknown-field",
        "severity": "error",
        "message": "unknown field `podSelecto`",
        "hint": "did you mean `podSelector`?",
        "place": {"path": "services/a.yaml", "line": 6, "column": 3, "width": 10},
        "related": [{"path": "services/b.yaml", "line": 2, "column": 1, "width": 1}],
        "teams": ["payments"],
        "cluster": "dev",
        "page": "docs/problems/platform/unknown-field.md",
    }


def test_sarif_names_rules_levels_and_regions() -> None:
    run = json.loads(reports.to_sarif([UNKNOWN, info("a/b", "w", Place("odd name.yaml"))], "1.2.3"))["runs"][0]
    driver = run["tool"]["driver"]
    assert driver["semanticVersion"] == "1.2.3"
    assert [rule["id"] for rule in driver["rules"]] == ["a/b", "platform/unknown-field"]
    note, result = run["results"]
    assert (note["level"], result["level"]) == ("note", "error")
    assert note["locations"][0]["physicalLocation"] == {"artifactLocation": {"uri": "odd%20name.yaml"}}
    assert result["ruleIndex"] == 1
    assert result["message"]["text"] == "unknown field `podSelecto`. Did you mean `podSelector`?"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 6, "startColumn": 3, "endColumn": 13}
    assert result["relatedLocations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "services/b.yaml"}
    assert result["properties"] == {"teams": ["payments"], "cluster": "dev"}


def test_sarif_without_a_place_has_no_location() -> None:
    result = json.loads(reports.to_sarif([error("a/b", "w")], "1"))["runs"][0]["results"][0]
    assert "locations" not in result
    assert "relatedLocations" not in result
