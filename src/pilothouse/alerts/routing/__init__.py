"""Alertmanager's routing, as values: read, walked, explained, written and proved."""
