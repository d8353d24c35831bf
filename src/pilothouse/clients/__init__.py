"""The rooms that open sockets to servers; third-party exceptions stop here."""
