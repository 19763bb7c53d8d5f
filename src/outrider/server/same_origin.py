"""Whether a request may use the server, and what manages it, where no key is asked for.

A browser sends requests to this machine for any page that tells it to, and a page may give its own
name this machine's address. So a request for what manages the server has to name it by an address
or as localhost, and what a browser says of the page behind it has to be the server itself; any
other request may not come from a page of another site.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from outrider.errors import Forbidden

_OTHER_PAGE = (
    "a page of another site may not use this server while it needs no keys; start it with "
    "--auth on and give the page a key"
)
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


def check_own_page(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse what a browser sends for a page of somebody else; raises `Forbidden`.

    Such a page can't read the answer, but what runs for it may cost money.
    """
    host = origin = site = b""
    for name, value in headers:
        if name == b"host":
            host = value
        elif name == b"origin":
            origin = value
        elif name == b"sec-fetch-site":
            site = value
    if site:  # the browser knows the name that it asked for, which a proxy may have changed
        is_own = site != b"cross-site"
    else:
        is_own = not origin or _is_own(origin.decode("latin-1"), host.decode("latin-1"))
    if not is_own:
        raise Forbidden(_OTHER_PAGE)


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


def _is_own(origin: str, host: str) -> bool:
    """Say whether a page is the server's, or one of this machine that asks this machine."""
    page = _host_of(origin)
    if page == host.lower():
        return True
    try:
        names = [urlsplit(f"//{one}").hostname or "" for one in (page, host)]
    except ValueError:
        return False
    return all(map(is_loopback, names))


def _host_of(origin: str) -> str:
    scheme, _, host = origin.lower().partition("://")
    return host if scheme in ("http", "https") else ""
