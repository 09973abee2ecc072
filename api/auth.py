"""Who asks, and whether their key allows it."""

from typing import Annotated

from fastapi import Depends, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from abcore.specs.refusals import Problem
from api.context import ContextDep
from api.problems import Refused
from store.errors import Unauthenticated
from store.keys import Principal, authenticate

_bearer = HTTPBearer(auto_error=False, description="An API key: `abdistill-server keys create`.")


def _principal(  # in a thread, as it reads the database
    context: ContextDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Principal:
    if credentials is None:
        raise Unauthenticated("The request has no API key: send it as `Authorization: Bearer abd_...`.")
    return authenticate(context.db, credentials.credentials)


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
