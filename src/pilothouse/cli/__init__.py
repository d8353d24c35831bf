"""The command line: thin. It parses, calls a workflow, and shows what came back."""
