"""Other programs' audit logs beside our ledger: Vault's and the API server's, as values, and what they certainly show.

Pure: lines in, records and problems out. `workflows.audit` reads the files and keeps what is of use.
"""
