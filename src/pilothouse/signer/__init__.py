"""The signer: the process that owns the keys of the embedded authorities, reached over a Unix socket.

It believes nothing that the portal says about a person: `workflows.issuance` reads session, groups, profile,
request and approval from the store and the declarations itself, and records before it signs.
"""
