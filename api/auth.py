"""Who asks, and whether their key allows it."""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from abcore.specs.refusals import Problem
from api.context import ContextDep
from api.problems import Refused
from api.rates import WINDOW_SECONDS, RateLimiter
from store.errors import Unauthenticated
from store.keys import Principal, authenticate

_bearer = HTTPBearer(auto_error=False, description="An API key: `abdistill-server keys create`.")


def _principal(  # in a thread, as it reads the database
    request: Request,
    context: ContextDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Principal:
    if credentials is None:
        raise Unauthenticated("The request has no API key: send it as `Authorization: Bearer abd_...`.")
    principal = authenticate(context.db, credentials.credentials)
    request.state.principal = principal  # for the audit log
    if context.rates is not None:
        _count(request, context.rates, principal.key_id)
    return principal


def _count(request: Request, rates: RateLimiter, key_id: str) -> None:
    """Take a token from the key's bucket; the envelope of the answer, whatever that will be, says what is left.

    Raises:
        Refused: 429, there is none.
    """
    allowance = rates.take(key_id)
    request.state.headers = allowance.headers()
    if allowance.wait_seconds:
        raise Refused(
            Problem(
                code="request.rate",
                message=f"key {key_id} may send {allowance.requests:,} requests in {WINDOW_SECONDS} s",
                where="header.Authorization",
                allowed=(f"<= {allowance.requests} requests in {WINDOW_SECONDS} s",),
            ),
            headers={"Retry-After": str(allowance.wait_seconds)},
        )


async def _allowed(needed: SecurityScopes, principal: Annotated[Principal, Depends(_principal)]) -> Principal:
    (scope,) = needed.scopes
    if scope in principal.scopes or "admin" in principal.scopes:
        return principal
    raise Refused(
        Problem(
            code="key.scope",
            message=f"this request needs a key with the scope {scope!r}",
            where="header.Authorization",
            value=", ".join(sorted(principal.scopes)),
            allowed=tuple(dict.fromkeys((scope, "admin"))),
        ),
    )


# The scopes stand in the OpenAPI document, at `security` of each operation.
Reader = Annotated[Principal, Security(_allowed, scopes=["read"])]
Submitter = Annotated[Principal, Security(_allowed, scopes=["submit"])]
Admin = Annotated[Principal, Security(_allowed, scopes=["admin"])]
