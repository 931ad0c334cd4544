"""Fetching a picture that a request names, without becoming its sender's hands in this network.

A name is resolved once, every address that it has must be public, and the connection goes to one of these very
addresses, so a name that changes its mind in between (DNS rebinding) changes nothing. Each redirect is a new address
and is checked like the first. Proxies and credentials of this machine's environment are not used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import httpx

from ostro.errors import RequestError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_TUNNELS = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32")))
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """Most bytes, seconds for everything together, redirects, and which ports and media types are taken."""

    max_bytes: int = 20 << 20
    seconds: float = 10.0
    max_redirects: int = 3
    ports: Sequence[int] = (80, 443)
    content_types: Sequence[str] = ("image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched: its bytes, its media type in lower case, and the URL it came from in the end."""

    data: bytes
    content_type: str
    url: str


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open Internet, and not to this machine, its network or a tunnel into one.

    >>> [is_public(ipaddress.ip_address(a)) for a in ("93.184.216.34", "10.0.0.1", "169.254.169.254", "::ffff:7f00:1")]
    [True, False, False, False]
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(address.packed[-4:]))
    if address.scope_id is not None or any(address in network for network in _TUNNELS):
        return False
    return address.is_global and address in _UNICAST


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as this machine's resolver gives them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def fetch(
    url: str,
    limits: FetchLimits = FetchLimits(),
    *,
    resolve: Resolve = resolve,
    is_allowed: Callable[[Address], bool] = is_public,
) -> Fetched:
    """Fetch `url` over http or https. RequestError (param "image_url") where that is refused or does not succeed."""
    try:
        async with asyncio.timeout(limits.seconds), _client() as client:
            return await _follow(client, _parsed(url), limits, resolve, is_allowed)
    except TimeoutError:
        raise _refusal(url, f"it did not arrive within {limits.seconds:g} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        raise _refusal(url, f"the connection failed ({type(error).__name__})") from error


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=None)


async def _follow(
    client: httpx.AsyncClient, url: httpx.URL, limits: FetchLimits, resolve: Resolve, is_allowed: Callable[..., bool]
) -> Fetched:
    for _ in range(limits.max_redirects + 1):
        addresses = await _addresses(url, limits, resolve, is_allowed)
        response = await _get(client, url, addresses)
        try:
            if response.status_code not in _REDIRECTS:
                return await _read(response, url, limits)
            following = _parsed(str(url.join(response.headers.get("location", ""))))
            if url.scheme == "https" and following.scheme != "https":
                raise _refusal(url, "it redirects from https to http")
            url = following
        finally:
            await response.aclose()
    raise _refusal(url, f"it redirects more than {limits.max_redirects} times")


def _parsed(url: str) -> httpx.URL:
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise _refusal(url, "only http and https are fetched")
    if parsed.userinfo:
        raise _refusal(url, "it carries a user name")
    return parsed


async def _addresses(
    url: httpx.URL, limits: FetchLimits, resolve: Resolve, is_allowed: Callable[..., bool]
) -> Sequence[str]:
    """The addresses of the URL's host, all of them allowed."""
    port = url.port or (443 if url.scheme == "https" else 80)
    if port not in limits.ports:
        raise _refusal(url, f"port {port} is none of {', '.join(map(str, limits.ports))}")
    addresses = await resolve(url.raw_host.decode("ascii").strip("[]"), port)
    if not addresses or not all(is_allowed(ipaddress.ip_address(address)) for address in addresses):
        raise _refusal(url, "its host is not, or not only, at a public address")
    return addresses


async def _get(client: httpx.AsyncClient, url: httpx.URL, addresses: Sequence[str]) -> httpx.Response:
    """Ask the first address that answers. The host's name goes into the header, and into TLS, which checks it."""
    host = url.netloc.decode("ascii")
    for address in addresses:
        request = client.build_request(
            "GET",
            url.copy_with(host=address),
            headers={"host": host, "accept": "image/*", "accept-encoding": "identity"},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        try:
            return await client.send(request, stream=True)
        except httpx.ConnectError:
            if address == addresses[-1]:
                raise
    raise AssertionError("there is at least one address")


async def _read(response: httpx.Response, url: httpx.URL, limits: FetchLimits) -> Fetched:
    if response.status_code != 200:
        raise _refusal(url, f"the answer was {response.status_code}")
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in limits.content_types:
        raise _refusal(url, f"it is of type {content_type[:50]!r}, none of {', '.join(limits.content_types)}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise _refusal(url, "it is compressed for transport, though that was not asked for")
    data = bytearray()
    async for piece in response.aiter_raw():
        data += piece
        if len(data) > limits.max_bytes:
            raise _refusal(url, f"it is larger than the {limits.max_bytes} bytes allowed")
    return Fetched(bytes(data), content_type, str(url))


def _refusal(url: str | httpx.URL, reason: str) -> RequestError:
    return RequestError(
        f"The picture at {str(url)[:200]!r} was not fetched: {reason}. Send it as a data: URL instead.",
        param="image_url",
    )
