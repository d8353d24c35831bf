"""How fast are documents turned into YAML, beside PyYAML's own C dumper on the same data?

What is written is what a render writes: every YAML document of one cluster, of the bank and of a generated platform. No
document shares a value with another here, which a render writes once: what is compared is the writing alone. PyYAML
reads a sample of both texts back, and both must say the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import render
import yaml
from processes import tell
from table import Column, Row, Table

from pilothouse import bundle
from pilothouse.artifacts.model import Artifacts, Document, Format
from pilothouse.artifacts.write import serialise_all
from pilothouse.workflows.rendering import inputs_for, open_platform

SERVICES = {"full": 200, "tiny": 3}
REPEAT = {"full": 3, "tiny": 1}
TODAY = date(2026, 11, 21)
COLUMNS = (
    Column("documents", "documents"),
    Column("megabytes", "text", "MB", 2),
    Column("ours", "ours", "ms"),
    Column("pyyaml", "PyYAML, C", "ms"),
    Column("ratio", "ratio", "x", 1),
)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _dumped(document: Document) -> bytes:
    text = (
        yaml.dump_all(document.data, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
        if document.format is Format.MANIFESTS
        else yaml.dump(document.data, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    )
    return bytes(text.encode())


def _milliseconds(work: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) * 1000)
    return round(statistics.median(times), 1)


def _plain(value: Any) -> Any:
    """With dicts, lists and strings alone, as PyYAML's safe dumper wants them."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def measure(name: str, folder: Path, cluster: str, repeat: int) -> Row:
    tell(f"writer: {name}")
    derived = bundle.derive(inputs_for(open_platform(folder), cluster, TODAY)[0])
    documents = [
        Document(document.path, _plain(document.data), document.format)
        for document in derived.artifacts
        if document.format in (Format.YAML, Format.MANIFESTS)
    ]
    artifacts = Artifacts.of(documents)
    written = serialise_all(artifacts)
    for document in documents[:: max(1, len(documents) // 50)]:  # a sample: reading takes longer than writing
        texts = (written[document.path], _dumped(document))
        first, second = (list(yaml.load_all(text, Loader=_LOADER)) for text in texts)
        if first != second:
            raise SystemExit(f"{document.path} is not what PyYAML writes")
    ours = _milliseconds(lambda: serialise_all(artifacts), repeat)
    theirs = _milliseconds(lambda: [_dumped(document) for document in documents], repeat)
    return {
        "name": name,
        "documents": len(documents),
        "megabytes": round(sum(map(len, written.values())) / 1e6, 2),
        "ours": ours,
        "pyyaml": theirs,
        "ratio": round(theirs / ours, 1) if ours else None,
    }


def answer(scale: str) -> list[Table]:
    rows = [measure("bank, prod", render.BANK, "prod", REPEAT[scale])]
    with render.generated(SERVICES[scale]) as folder:
        rows.append(measure(f"{SERVICES[scale]:,} services", folder, render.generate.CLUSTER, REPEAT[scale]))
    notes = ["milliseconds of the processor, median; ratio: PyYAML's beside ours"]
    return [Table("Documents turned into YAML", COLUMNS, rows, notes)]
