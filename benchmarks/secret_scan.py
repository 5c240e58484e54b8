"""Finds what looks like a secret in plain data, so that none reaches a record, a log or a server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainoff.errors import UserError

REMOVED = "[removed: looks like a secret]"

# Whole words of a key, so that `pad_token` or `max_tokens` of a language model are none.
_KEYS = re.compile(
    r"(?:^|[._-])(?:api[_-]?key|apikey|secret|secret[_-]?key|client[_-]?secret|password|passwd|passphrase|credentials?|"
    r"(?:access|auth|bearer|refresh|session|api|hf|wandb|github|private)[_-]?token|private[_-]?key|"
    r"access[_-]?key(?:[_-]?id)?|connection[_-]?string)$",
    re.IGNORECASE,
)
# Forms that are nothing else: prefixes that providers gave their keys so that scanners find them.
_VALUES = re.compile(
    r"""(?x)
    \bAKIA[0-9A-Z]{16}\b | \bASIA[0-9A-Z]{16}\b                           # Amazon
    | \bgh[pousr]_[A-Za-z0-9]{36,}\b | \bgithub_pat_[A-Za-z0-9_]{40,}\b    # GitHub
    | \bglpat-[A-Za-z0-9_-]{20,}                                          # GitLab
    | \bhf_[A-Za-z0-9]{30,}\b                                             # Hugging Face
    | \bsk-[A-Za-z0-9_-]{20,}                                             # OpenAI, Anthropic
    | \bwandb_v1_[A-Za-z0-9_-]{20,} | \blocal-[0-9a-f]{40}\b               # Weights & Biases
    | \bxox[abeprs]-[A-Za-z0-9-]{10,}                                     # Slack
    | \bAIza[0-9A-Za-z_-]{35}\b                                           # Google
    | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}       # a JSON web token
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|$)
    | (?<=://)[^\s/:@'"]+:[^\s/:@'"]+(?=@)                                # https://name:password@host
    """
)


def refuse_secrets(data: Any, where: str = "") -> None:
    """Refuse data that hold what looks like a secret; the message names its place and not the secret.

    Args:
        data: Mappings, lists and scalars.
        where: What the data are, for the message.

    Raises:
        UserError: For the first one.
    """
    for path in secret_paths(data):
        raise UserError(
            "looks like a secret, and a suite's values are kept in records; let the code read it from an environment "
            "variable",
            ".".join(filter(None, (where, *path))),
        )


def secret_paths(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where something looks like a secret: by its key or by its form."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            here = (*path, without_values(str(key)))
            if _is_named_secret(str(key), value) or _VALUES.search(str(key)):
                yield here
            else:
                yield from secret_paths(value, here)
    elif isinstance(data, (list, tuple)):
        for index, value in enumerate(data):
            yield from secret_paths(value, (*path, str(index)))
    elif isinstance(data, str) and _VALUES.search(data):
        yield path


def without_secrets(data: Any) -> Any:
    """The same data with :data:`REMOVED` in place of what looks like a secret."""
    if isinstance(data, Mapping):
        return {
            without_values(key) if isinstance(key, str) else key: REMOVED
            if _is_named_secret(str(key), value)
            else without_secrets(value)
            for key, value in data.items()
        }
    if isinstance(data, (list, tuple)):
        return [without_secrets(value) for value in data]
    return without_values(data) if isinstance(data, str) else data


def without_values(text: str) -> str:
    """Text, such as a traceback, without what has a secret's form."""
    return _VALUES.sub(REMOVED, text)


def _is_named_secret(key: str, value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value != REMOVED and _KEYS.search(key) is not None
