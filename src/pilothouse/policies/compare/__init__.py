"""What differs between two sets of policies: by connections, never by text."""
