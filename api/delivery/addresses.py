"""Where a webhook may lead: to the internet, and not to what only this service can reach (server-side request forgery).

A name is resolved once for an attempt, every address that it leads to is looked at, and the connection is made to
one of those very addresses: a name that leads elsewhere a moment later leads nobody there.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

import httpx

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
PORTS = {"https": 443, "http": 80}


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# IANA's registries of special-purpose addresses, written out: Python's own idea of them differs between versions.
_SPECIAL = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)  # fmt: skip
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_PRIVATE = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7",
)  # fmt: skip
"""What an operator may allow. Link-local addresses, where clouds keep their credentials, are never allowed."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(Exception):
    """A webhook must not lead there, or leads nowhere. The message names no address: its reader chose only a name."""


class NameUnknown(AddressRefused):
    """The name leads nowhere at this moment."""


def parse_url(url: str, *, allow_http: bool) -> httpx.URL:
    """Return an address that a webhook may have, as far as it can be told from its text.

    Raises:
        AddressRefused
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise AddressRefused(f"it is no address: {error}") from None
    if parsed.scheme not in PORTS or not parsed.raw_host:
        raise AddressRefused("it must begin with https:// and a host")
    if parsed.scheme == "http" and not allow_http:
        raise AddressRefused("it must begin with https://: http:// is not allowed here")
    if parsed.userinfo:
        raise AddressRefused("it must hold no user name and no password: the signature tells who is asking")
    if parsed.fragment:
        raise AddressRefused("it must have no #fragment: none would be sent")
    if parsed.port is not None and not 0 < parsed.port < 65536:
        raise AddressRefused("its port must be one of 1 to 65535")
    return parsed


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name, in the order in which the system would try them; none where there are none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return ()
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def addresses_of(url: httpx.URL, resolver: Resolver, *, allow_private: bool) -> Sequence[str]:
    """Return where a webhook leads at this moment, resolved once; connect to nothing else.

    Raises:
        NameUnknown
        AddressRefused: one of the addresses is not allowed.
    """
    host = url.raw_host.decode("ascii")
    found = await resolver(host, url.port or PORTS[url.scheme])
    if not found:
        raise NameUnknown(f"the name {host} leads nowhere")
    if not all(is_allowed(address, allow_private=allow_private) for address in found):
        raise AddressRefused(f"{host} leads to an address that webhooks may not lead to")
    return found


def is_allowed(address: str, *, allow_private: bool) -> bool:
    """Whether a webhook may lead to this address: any on the public internet, or a private one if that is allowed."""
    plain = _plain(ipaddress.ip_address(address.partition("%")[0]))
    if any(plain in network for network in _PRIVATE):
        return allow_private
    if plain.version == 6 and plain not in _GLOBAL_IPV6:
        return False
    return not any(plain in network for network in _SPECIAL)


def _plain(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 address stands for, where it stands for one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
