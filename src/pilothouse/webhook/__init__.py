"""The authorization webhook: a process that tells API servers what is locked, and has no opinion on all else.

It answers from memory, so that a database that is away slows no cluster down: what was locked stays locked.
"""
