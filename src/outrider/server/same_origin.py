"""Whether a request may use what manages the server where no key is asked for.

A browser sends requests to this machine for any page that tells it to, and a page may give its own
name this machine's address. So the request has to name the server by an address or as localhost,
and what a browser says of the page behind it has to be the server itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from outrider.errors import Forbidden

_OWN_SITES = (b"same-origin", b"none")  # none: typed by the user


def check_same_origin(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse what another page asks for, or asks for by another name; raises `Forbidden`."""
    hosts: list[str] = []
    for name, value in headers:
        if name == b"host":
            hosts.append(value.decode("latin-1"))
        elif name == b"sec-fetch-site" and value not in _OWN_SITES:
            raise Forbidden("another page may not use what manages this server; open it here")
    if len(hosts) != 1 or not _is_address(hosts[0]):
        raise Forbidden(
            "what manages this server answers to its address or localhost only while it needs no "
            "keys; open it as http://127.0.0.1 with its port, or start it with --auth on"
        )
    for name, value in headers:
        if name == b"origin" and _host_of(value.decode("latin-1")) != hosts[0].lower():
            raise Forbidden("another page may not use what manages this server; open it here")


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(host: str) -> bool:
    """Say whether a Host header has no name that somebody else could have given an address."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost" or name.endswith(".localhost"):
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _host_of(origin: str) -> str:
    scheme, _, host = origin.lower().partition("://")
    return host if scheme in ("http", "https") else ""
