"""The worker: one process that runs the jobs of `workflows.upkeep` on a schedule."""
