"""The URL at which the client reaches us, and its address, even behind a reverse proxy (RFC 7239 and predecessors).

Only proxies named in the settings are trusted: anybody can send these headers.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from flask import has_request_context, request

from radir_pacs.config import Settings

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]{1,100}){0,10}\Z")
_PAIR = re.compile(r'\s*([A-Za-z-]+)=(?:"([^"]*)"|([^",;\s]*))\s*(?:;|\Z)')


def public_url(settings: Settings) -> str:
    """The URL as reported by a trusted proxy, else as configured; without a trailing slash."""
    if not (settings.trusted_proxies and has_request_context() and _is_trusted(request.remote_addr, settings)):
        return settings.public_url
    told = _forwarded(settings) or _x_forwarded(settings)
    scheme = told.get("proto", "").lower()
    host = told.get("host", "")
    if scheme not in ("http", "https") and not host:
        return settings.public_url
    own_scheme = settings.public_url.partition("://")[0]
    host = host or request.host  # a proxy that passes the Host header on need not repeat it
    if not _HOST.match(host):
        return settings.public_url
    prefix = request.headers.get("X-Forwarded-Prefix", "").rstrip("/")
    return f"{scheme if scheme in ('http', 'https') else own_scheme}://{host}{prefix if _PREFIX.match(prefix) else ''}"


def client_address(settings: Settings) -> str:
    """The address from which the current request came, as a trusted proxy reports it; empty when it is none."""
    direct = request.remote_addr or ""
    if not (settings.trusted_proxies and _is_trusted(direct, settings)):
        return direct
    # nginx and others add X-Forwarded-For and pass on whatever Forwarded the client wrote
    told = _x_forwarded(settings) if "X-Forwarded-For" in request.headers else _forwarded(settings)
    try:
        return str(ip_address(_without_port(told["for"]))) if "for" in told else direct
    except ValueError:  # RFC 7239 allows "unknown" and names of the proxy's own
        return direct


def _forwarded(settings: Settings) -> dict[str, str]:
    """The element of a Forwarded header that the outermost trusted proxy wrote; empty without one."""
    found: dict[str, str] = {}
    for element in reversed(request.headers.get("Forwarded", "").split(",")):
        pairs = {name.lower(): quoted or bare for name, quoted, bare in _PAIR.findall(element)}
        if not pairs:
            break
        found = found | pairs
        if not _is_trusted(_without_port(pairs.get("for", "")), settings):
            break
    return found


def _x_forwarded(settings: Settings) -> dict[str, str]:
    """The same from X-Forwarded-For, -Proto and -Host, lists to which each proxy may add."""
    addresses = _list("X-Forwarded-For")
    hops = 1
    while hops <= len(addresses) and _is_trusted(_without_port(addresses[-hops]), settings):
        hops += 1
    told = {}
    for name in ("for", "proto", "host"):
        values = _list(f"X-Forwarded-{name}")
        if values:
            told[name] = values[-min(hops, len(values))]
    return told


def _list(header: str) -> list[str]:
    return [value.strip() for value in request.headers.get(header, "").split(",") if value.strip()]


def _without_port(node: str) -> str:
    """The address of ``192.0.2.1:4711`` or ``[2001:db8::1]:4711``."""
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node


@lru_cache(maxsize=8)
def _networks(written: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text, strict=False) for text in written)


def _is_trusted(address: str | None, settings: Settings) -> bool:
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in _networks(settings.trusted_proxies))
