"""One attempt to tell a webhook something: to an address that was looked at, once, and with a limit on everything."""

import asyncio
import logging
import ssl
from email.utils import parsedate_to_datetime

import httpx

from api.delivery.addresses import AddressRefused, Resolver, addresses_of, parse_url, resolve
from api.delivery.signing import signed_headers
from store.deliveries import Claimed, Outcome
from store.settings import Settings

CONNECT_SECONDS = 5.0
USER_AGENT = "abdistill-webhooks/1"
_log = logging.getLogger(__name__)


class Sender:
    """Sends by the settings. `resolver` and `trusted` (certificate authorities) are the system's unless given."""

    def __init__(
        self, settings: Settings, resolver: Resolver = resolve, trusted: ssl.SSLContext | None = None
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._trusted = trusted or httpx.create_ssl_context()

    async def send(self, claimed: Claimed) -> Outcome:
        """Send once; whatever goes wrong is an outcome, told so that the webhook's owner knows what to look at."""
        limit_seconds = self._settings.webhook_timeout_seconds
        try:
            async with asyncio.timeout(limit_seconds):
                return await self._send(claimed)
        except TimeoutError:
            return Outcome(None, f"There was no answer within {limit_seconds:g} s.")
        except AddressRefused as refused:
            return Outcome(None, f"Not sent: {refused}.")
        except httpx.HTTPError as error:
            return Outcome(None, f"{type(error).__name__}: {error}")
        except Exception as error:
            # One that cannot be sent must not keep the others from being sent.
            _log.exception("webhook %s: delivery %s broke", claimed.webhook_id, claimed.delivery_id)
            return Outcome(None, f"The service could not send it ({type(error).__name__}).")

    async def _send(self, claimed: Claimed) -> Outcome:
        # Looked at anew: what was allowed when the webhook was made may not be any more.
        url = parse_url(claimed.url, allow_http=self._settings.webhook_allow_http)
        allow_private = self._settings.webhook_allow_private
        addresses = await addresses_of(url, self._resolver, allow_private=allow_private)
        for address in addresses[:-1]:
            try:
                return await self._post(url, address, claimed)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._post(url, addresses[-1], claimed)

    async def _post(self, url: httpx.URL, address: str, claimed: Claimed) -> Outcome:
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Connection": "close",
            **signed_headers(claimed),
        }
        # The connection goes to the address; who must be there (Host, SNI, the certificate's name) is the URL's host.
        pinned = url.copy_with(host=address)
        extensions = {"sni_hostname": url.raw_host.decode("ascii")}
        limits = httpx.Timeout(self._settings.webhook_timeout_seconds, connect=CONNECT_SECONDS)
        # Without trust_env: a proxy from the environment would resolve the name a second time.
        async with (
            httpx.AsyncClient(verify=self._trusted, trust_env=False, timeout=limits) as client,
            client.stream(
                "POST",
                pinned,
                content=claimed.body.encode(),
                headers=headers,
                extensions=extensions,
                follow_redirects=False,
            ) as response,
        ):
            # The body is nobody's concern, and may be endless: the connection is closed without reading it.
            return _outcome(response, claimed.now)


def _outcome(response: httpx.Response, now: float) -> Outcome:
    status = response.status_code
    if response.is_success:
        return Outcome(status)
    error = f"The receiver answered {status}."
    if response.is_redirect:
        error += " Redirects are not followed: give the webhook the address that it leads to."
    return Outcome(status, error, _retry_after(response.headers.get("Retry-After", ""), now))


def _retry_after(value: str, now: float) -> float:
    """Seconds that a receiver asks to be left alone, given as seconds or as a date; 0 where it does not say."""
    try:
        seconds = float(value) if value.isdecimal() else parsedate_to_datetime(value).timestamp() - now
    except ValueError:
        return 0.0
    return max(seconds, 0.0)
