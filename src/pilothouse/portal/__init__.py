"""The portal: pages and API over the same functions that the command line calls. Server-rendered, works
without JavaScript; every state has an address."""

from pilothouse.portal.app import Settings, create_app

__all__ = ["Settings", "create_app"]
