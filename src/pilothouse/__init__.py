"""pilothouse: teams declare; pilothouse derives, proves, applies and watches."""

__version__ = "0.1.0"
