"""What pages show of the clusters' log stores."""

from __future__ import annotations

from pilothouse.portal.frame import Portal, live, portal
from pilothouse.problems import PilothouseError
from pilothouse.workflows.log_figures import LogFiguresWatch, Seen

KEY = "log_figures"


def start(portal: Portal) -> None:
    """One watch for the life of the application."""
    portal.settings.extra.setdefault(KEY, LogFiguresWatch(portal.settings.clock))


def seen(cluster: str) -> Seen:
    """What is known of that cluster's log store now; never waits for longer than a moment."""
    if not cluster:
        return Seen(reason="no cluster is declared")
    try:
        inputs = live().inputs(cluster)
    except PilothouseError as failure:
        return Seen(reason=failure.message)
    watch: LogFiguresWatch = portal().settings.extra[KEY]
    return watch.look(inputs)
