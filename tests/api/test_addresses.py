"""Where webhooks may lead: a table of addresses, names that change their mind, and certificates."""

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trustme

from api.delivery import addresses
from api.delivery.addresses import AddressRefused, NameUnknown, addresses_of, is_allowed
from api.delivery.sending import Sender
from store.deliveries import Claimed, Outcome
from store.settings import Settings

PUBLIC = ("1.1.1.1", "93.184.216.34", "198.20.0.1", "223.255.255.255", "2606:4700::1111", "64:ff9b::101:101")
PRIVATE = (
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "127.0.0.1", "127.255.0.1",
    "::1", "fd00::1", "fc00::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
)  # fmt: skip
NEVER = (
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1",
    "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "::127.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::",
    "3fff::1", "5f00::1", "4000::1",
)  # fmt: skip


@pytest.mark.parametrize("address", [*PUBLIC, *PRIVATE, *NEVER])
def test_which_addresses_webhooks_may_lead_to(address: str) -> None:
    assert is_allowed(address, allow_private=False) == (address in PUBLIC)
    assert is_allowed(address, allow_private=True) == (address not in NEVER)


def resolving(*answers: list[str]) -> Callable[[str, int], Any]:
    """A resolver that gives one answer after the other."""
    waiting = deque(answers)

    async def resolve(_host: str, _port: int) -> list[str]:
        return waiting.popleft()

    return resolve


def test_a_name_must_lead_to_allowed_addresses_alone() -> None:
    url = httpx.URL("https://example.com/")
    look = addresses_of(url, resolving(["1.1.1.1", "10.0.0.1"]), allow_private=False)
    with pytest.raises(AddressRefused, match=r"example\.com leads to an address") as caught:
        asyncio.run(look)
    assert "10.0.0.1" not in str(caught.value), "what an internal name leads to is nobody's to learn"
    with pytest.raises(NameUnknown):
        asyncio.run(addresses_of(url, resolving([]), allow_private=False))


def claimed(url: str) -> Claimed:
    secret = "whsec_" + "A" * 32
    return Claimed("dlv_1", 1, "whk_1", "evt_1", url, '{"type":"webhook.test"}', (secret,), time.time())


def send(url: str, trusted: ssl.SSLContext | None = None, resolver: Any = None, **settings: Any) -> Outcome:
    """One attempt, with the system's resolver unless another is given."""
    made = Settings(**{"webhook_allow_http": True, "webhook_timeout_seconds": 30} | settings)
    sender = Sender(made, **({"resolver": resolver} if resolver else {}), trusted=trusted)
    return asyncio.run(sender.send(claimed(url)))


def test_a_private_address_gets_no_connection_whatever_was_allowed_before(receiver: Any) -> None:
    outcome = send(receiver.url)
    assert outcome.status is None
    assert "may not lead" in str(outcome.error)
    assert receiver.received == []
    assert send(receiver.url, webhook_allow_private=True).status == 204
    assert "http:// is not allowed" in str(send(receiver.url, webhook_allow_http=False).error)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, deque[str]]:
    """Names by which the system's own resolver, whoever asks it, gives one address after the other."""
    answers: dict[str, deque[str]] = {}
    genuine = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return genuine(answers[name].popleft() if name in answers else host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return answers


def test_a_name_that_changes_its_mind_cannot_reach_loopback(
    names: Any, receivers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.2 stands for an address on the internet, 127.0.0.1 for what must not be reached."""
    outside, inside = receivers(host="127.0.0.2"), receivers(host="127.0.0.1")
    monkeypatch.setattr(addresses, "is_allowed", lambda address, **_: address == "127.0.0.2")
    names["rebinding.example"] = deque(["127.0.0.2", "127.0.0.1", "127.0.0.1"])
    outcome = send(f"http://rebinding.example:{outside.port}/hook")
    assert outcome.status == 204
    (received,) = outside.received
    assert received.headers["host"] == f"rebinding.example:{outside.port}"
    assert len(names["rebinding.example"]) == 2, "it was resolved once"
    second = send(f"http://rebinding.example:{inside.port}/hook")
    assert "may not lead" in str(second.error)
    assert inside.received == []


def test_a_proxy_of_the_environment_is_not_asked(receiver: Any, receivers: Any, monkeypatch: Any) -> None:
    proxy = receivers()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert send(receiver.url, webhook_allow_private=True).status == 204
    assert (len(receiver.received), proxy.received) == (1, [])


def test_the_next_address_is_tried_where_one_does_not_answer(receivers: Any) -> None:
    there = receivers(host="127.0.0.1")
    url = f"http://two.example:{there.port}/"
    resolver = resolving(["127.0.0.3", "127.0.0.1", "127.0.0.4"])
    assert send(url, resolver=resolver, webhook_allow_private=True).status == 204


def test_the_certificate_is_that_of_the_name_and_not_of_the_address(receivers: Any, names: Any) -> None:
    authority = trustme.CA()
    own, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("hooks.example").configure_cert(own)
    authority.configure_trust(trusted)
    asked: list[str | None] = []
    own.sni_callback = lambda _socket, name, _context: asked.append(name)
    there = receivers(trusted=own)
    names |= {name: deque(["127.0.0.1"] * 2) for name in ("hooks.example", "other.example")}
    private = {"webhook_allow_private": True}
    assert send(f"https://hooks.example:{there.port}/", trusted, **private).status == 204
    assert asked == ["hooks.example"]
    wrong = send(f"https://other.example:{there.port}/", trusted, **private)
    assert "certificate" in str(wrong.error)
    unknown = send(f"https://hooks.example:{there.port}/", **private)
    assert "certificate" in str(unknown.error)
    assert len(there.received) == 1
