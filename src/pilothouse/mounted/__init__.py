"""Secrets as files in a pod: what the agent there is told, and how a secret's keys lie on disk.

Two speak these words: `access` writes them into a pod, the agent inside reads them. The agent starts beside every
service, so nothing here imports more than the standard library.
"""
