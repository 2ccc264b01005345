"""Formats of network addresses."""

from __future__ import annotations


def host_and_port(host: str, port: int) -> str:
    """``host:port``; with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
