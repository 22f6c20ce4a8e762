"""Who calls, and what a caller may do."""

import hashlib
import hmac
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from holdfast.config import ConfigError, Token
from holdfast.secretfile import secret_of


class Role(IntEnum):
    """What a caller may do; each may also do what stands before it, but an agent only speaks for itself."""

    AGENT = 0
    READ = 1
    ACT = 2
    ADMIN = 3


class Caller(NamedTuple):
    """Somebody known. name: what the journal calls them, never the token."""

    name: str
    role: Role
    agent: str
    job: str

    def may(self, role: Role) -> bool:
        return self.role >= role if role is not Role.AGENT else self.role is Role.AGENT

    def speaks_for(self, agent: str, job: str) -> bool:
        """Whether an agent's token is for this agent and this job."""
        return self.role is Role.AGENT and self.agent in ("*", agent) and self.job in ("*", job)


class Tokens:
    """The callers, by the hash of their token.

    raises ConfigError: a token file is unreadable or empty, or a role is unknown
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._callers: dict[str, Caller] = {}
        for token in tokens:
            if token.role.upper() not in Role.__members__:
                known = ", ".join(role.name.lower() for role in Role)
                raise ConfigError(f"token {token.file}: no role called {token.role!r}; there are: {known}")
            name = f"{token.role}:{Path(token.file).stem}"
            self._callers[_digest(_read(token.file))] = Caller(name, Role[token.role.upper()], token.agent, token.job)

    def caller(self, authorization: str) -> Caller | None:
        """Whom an Authorization header belongs to; None: nobody known."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret:
            return None
        digest = _digest(secret.strip())
        # every entry is compared in constant time, so that an answer's delay tells nothing of a token
        found = [caller for known, caller in self._callers.items() if hmac.compare_digest(known, digest)]
        return found[0] if found else None


def _read(file: str) -> str:
    try:
        return secret_of(file, key="token file")
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
