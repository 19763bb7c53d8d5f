"""Which URLs and addresses images may be fetched from: what the operator listed, and nothing else.

A URL is taken apart once, strictly, and put together again from its parts, so that no two parsers
can read it differently. A listed name may only lead to public addresses; a private one has to be
listed itself. Link-local addresses and those of clouds' metadata services are never allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from outrider.errors import ConfigError, InvalidRequest, UnsupportedParameter

Address = IPv4Address | IPv6Address

MAX_URL_CHARS = 2048
REMEDY = "send the image as a data URI, data:image/png;base64,..."
DEFAULT_PORTS = {"http": 80, "https": 443}
# Printable ASCII without what URLs hold in encoded form only; some parsers read \ as /.
_URL = re.compile(r"(?i)(https?)://([^/?#]+)([!-~]*)")
_FORBIDDEN = re.compile(r'[^!-~]|[\\"<>^`{|}]')
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
# A last label like these makes a name an IPv4 address in some notation (WHATWG URL, 3.5).
_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$")
# Services that hand out a machine's credentials and don't have link-local addresses: Alibaba,
# Azure, Oracle, AWS.
_METADATA = {
    ip_address(text)
    for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
}
_CARRIERS = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))  # NAT64, IPv4-compatible
# Networks that ipaddress takes for public: site-local, NAT64 of a site's own.
_PRIVATE = (IPv6Network("fec0::/10"), IPv6Network("64:ff9b:1::/48"))


class Target(NamedTuple):
    """Where an image is; `host` is a name in lower case or an address without brackets."""

    scheme: str
    host: str
    port: int
    path: str  # with the query, in ASCII

    @property
    def url(self) -> str:
        """The URL, put together again."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


class ImageHosts:
    """The hosts that an operator listed, as HOST, HOST:PORT or addresses."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Read the list; raises `ConfigError` for an entry that isn't a host or is never allowed.

        Without a port an entry stands for port 80 of http and port 443 of https.
        """
        self._rules = {_read_entry(entry) for entry in entries}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def target(self, url: str, param: str) -> Target:
        """Take a URL apart; raises `InvalidRequest` if it isn't one of a listed host."""
        target = _read_url(url, param)
        if not self._has(target.host, target):
            raise UnsupportedParameter(
                f"{param}: images may not be fetched from {target.host[:100]} port {target.port}, "
                f"which the operator's --image-hosts doesn't list; {REMEDY}",
                param,
            )
        return target

    def allows(self, address: str, target: Target) -> bool:
        """Say whether a connection to an address may be made for a target."""
        inner = _unwrapped(ip_address(address))
        if _is_never_allowed(inner):
            return False
        return _is_public(inner) or self._has(str(inner), target)

    def _has(self, host: str, target: Target) -> bool:
        usual = DEFAULT_PORTS[target.scheme] == target.port
        return (host, target.port) in self._rules or (usual and (host, None) in self._rules)


def _read_entry(entry: str) -> tuple[str, int | None]:
    refusal = ConfigError(f"image-hosts has {entry!r}; it must be a host or host:port")
    text = f"[{entry}]" if entry.count(":") > 1 and not entry.startswith("[") else entry
    match = _AUTHORITY.fullmatch(text)
    host = _read_host(match[1]) if match else None
    if match is None or host is None:
        raise refusal
    port = int(match[2]) if match[2] else None
    if port is not None and not 1 <= port <= 65535:
        raise refusal
    if _is_address(host) and _is_never_allowed(ip_address(host)):
        raise ConfigError(
            f"image-hosts has {entry!r}, an address that images are never fetched from; it may "
            "give out this machine's credentials"
        )
    return host, port


def _read_url(url: str, param: str) -> Target:
    if len(url) > MAX_URL_CHARS:
        raise InvalidRequest(
            f"{param} has {len(url):,} characters; a URL may have {MAX_URL_CHARS:,}", param
        )
    url = url.strip().partition("#")[0]
    parts = _URL.fullmatch(url)
    if parts is None or _FORBIDDEN.search(url):
        raise InvalidRequest(f"{param} is not a URL in ASCII; percent-encode it", param)
    if "@" in parts[2]:
        raise InvalidRequest(f"{param} holds a user's name or password; leave it out", param)
    authority = _AUTHORITY.fullmatch(parts[2])
    host = _read_host(authority[1]) if authority else None
    if authority is None or host is None:
        raise InvalidRequest(
            f"{param} has no proper host; write a name, or an address as in 192.0.2.1", param
        )
    scheme = parts[1].lower()
    port = int(authority[2]) if authority[2] else DEFAULT_PORTS[scheme]
    path = parts[3] if parts[3].startswith("/") else f"/{parts[3]}"
    return Target(scheme, host, port, path)


def _read_host(text: str) -> str | None:
    """Give a host in the one form in which hosts are compared; None if it isn't one."""
    if text.startswith("["):
        try:
            return str(_unwrapped(IPv6Address(text[1:-1])))
        except ValueError:
            return None
    name = text.lower().removesuffix(".")
    if not _NUMBER.search(name):
        labels = name.split(".")
        is_name = all(1 <= len(label) <= 63 and label.strip("-") == label for label in labels)
        return name if is_name else None
    try:
        return str(IPv4Address(name))  # decimal, octal and short forms aren't known to it
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    return ":" in host or _NUMBER.search(host) is not None


def _unwrapped(address: Address) -> Address:
    """Give the IPv4 address inside of an IPv6 one that only carries it."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if int(address) > 0xFFFF and any(address in network for network in _CARRIERS):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    return address.is_global and not any(address in network for network in _PRIVATE)


def _is_never_allowed(address: Address) -> bool:
    return (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address in _METADATA
    )
