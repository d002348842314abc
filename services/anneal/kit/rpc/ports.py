"""Addresses that a server listens on."""

from __future__ import annotations


class PortTaken(OSError):
    """The address cannot be bound."""
