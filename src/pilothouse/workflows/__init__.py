"""Use cases: what a command of the CLI, its page of the portal and the worker do alike."""
