"""How servers are given: `host:port`, with or without a scheme, which says whether they are spoken to over TLS."""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import urlsplit

from ._error import refused

DEFAULT = "127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103"
HOW = "write host:port, http://host:port or https://host:port, for example 127.0.0.1:7101"


def servers_of(given: str | Iterable[str] | None) -> list[str]:
    """The servers as they were given, or as LIMINAL_SERVER names them, or those of a cluster on this machine."""
    if given is None:
        given = os.environ.get("LIMINAL_SERVER") or DEFAULT
    servers = given.split(",") if isinstance(given, str) else list(given)
    servers = [server.strip() for server in servers if server.strip()]
    if not servers:
        raise refused("no server to connect to", help="name at least one, for example 127.0.0.1:7101")
    return servers


def authority(server: str) -> tuple[bool | None, str]:
    """`host:port` of a server, and whether its scheme says TLS; None where it has no scheme."""
    scheme, found, rest = server.partition("://")
    if not found:
        scheme, rest = "", server
    if scheme not in ("", "http", "https"):
        raise refused(f"`{server}` is no server address: the scheme is not http or https", help=HOW)
    rest = rest.rstrip("/")
    if rest.count(":") > 1 and not rest.startswith("["):
        host, _, port = rest.rpartition(":")
        raise refused(f"`{server}` is no server address: write an IPv6 address in brackets: [{host}]:{port}")
    try:
        parts = urlsplit(f"//{rest}")
        name, number = parts.hostname, parts.port
    except ValueError as error:
        raise refused(f"`{server}` is no server address: {error}", help=HOW) from None
    if not name or number is None or parts.netloc != rest or any(letter.isspace() for letter in rest):
        raise refused(f"`{server}` is no server address: it needs a host and a port, and nothing else", help=HOW)
    return (None if not scheme else scheme == "https"), rest


def authorities(servers: list[str], prefers_tls: bool) -> tuple[list[str], bool]:
    """`host:port` of each server, and whether they are spoken to over TLS."""
    found: list[str] = []
    encrypted: bool | None = None
    for server in servers:
        says, address = authority(server)
        tls = prefers_tls if says is None else says
        if encrypted is not None and encrypted != tls:
            raise refused(
                f"some servers are given as https:// and some are not, such as `{server}`",
                help="all nodes of a cluster speak TLS to clients, or none",
            )
        encrypted = tls
        found.append(address)
    return found, bool(encrypted)
