"""Data sets of the Hugging Face hub, through ``datasets``: asked first whether it answers, so that nobody waits.

``datasets`` tries again for up to a minute where the hub cannot be reached or fails. A connection and one question
about the set come first, each with a limit, and decide within :data:`CONNECT_SECONDS` + :data:`ANSWER_SECONDS`.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainoff.errors import UserError

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 2.0
SILENCE_SECONDS = 3  # within a download, which is then taken up again; the library's default is 10
_TRUE = {"1", "ON", "YES", "TRUE"}
_LONGEST_REASON = 300  # characters of a foreign message that are passed on


class HubError(Exception):
    """Why a set cannot be had from the hub, on one line."""


def load_hub_dataset(name: str, config: str | None = None, revision: str | None = None) -> Mapping[str, Any]:
    """The splits of a set, from the hub, or from the cache of ``datasets`` where the hub does not serve it.

    Args:
        name: Owner and name, such as ``ylecun/mnist``.
        config: The set's configuration, where it has several.
        revision: A branch or commit other than the main one; of it the cache is not asked, which may hold another.

    Returns:
        A ``datasets.Dataset`` for each split's name.

    Raises:
        HubError: Saying why neither has it. A hub that cannot be reached, does not know the set, refuses it, fails or
            does not answer says so within :data:`CONNECT_SECONDS` + :data:`ANSWER_SECONDS`. What fails after that is
            given up by ``datasets`` itself, which takes it up five times: a download that falls silent after 23 s, a
            file that the hub fails to give likewise.
    """
    try:
        if not hub_answers():
            raise HubError("the hub cannot be reached")
        _ask_for(name)
        return _download(name, config, revision)
    except HubError:
        cached = {} if revision is not None else _cached(name, config)
        if not cached:
            raise
        return cached


def hub_answers() -> bool:
    """Whether the hub, or the proxy on the way to it, accepts a connection within :data:`CONNECT_SECONDS`."""
    if any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")):
        return False
    url = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))

    def connect() -> bool:
        try:
            socket.create_connection(address, timeout=CONNECT_SECONDS).close()
        except OSError:
            return False
        return True

    return _within(CONNECT_SECONDS, connect) is True


def cache_folder() -> Path:
    """The user's folder for what can be made again: ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def own_folders(name: str) -> list[Path]:
    """Where a set is kept, the first one for writing: in ``$TRAINOFF_DATA`` where that is set, and in our cache."""
    data = os.environ.get("TRAINOFF_DATA")
    named = [Path(data).expanduser() / name] if data else []
    return [*named, cache_folder() / "trainoff" / name]


def check_column(features: Mapping[str, Any], column: str, where: str) -> None:
    """:class:`UserError` that names the columns there are, where this one is not among them."""
    if column not in features:
        raise UserError(f"has no column '{column}'; it has {', '.join(features)}", where)


def _within(seconds: float, ask: Callable[[], Any]) -> Any:
    """What ``ask`` returns, or None where it has not after so many seconds.

    In a thread, as looking up a host's address has no time limit, and a server may send its answer byte by byte.
    """
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None


def _ask_for(name: str) -> None:
    """One question about the set, which is not asked again: :class:`HubError` for any answer but that it is there."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    def ask() -> str:
        try:
            HfApi().dataset_info(name, timeout=ANSWER_SECONDS)
        except HFValidationError:
            return f"'{name}' is no name of a data set; it must be owner/name"
        except GatedRepoError:
            return _gated(name)
        except RepositoryNotFoundError:
            return f"the hub has no data set '{name}', or none that you may see (`hf auth login` says who you are)"
        except Exception as error:  # whatever its HTTP library raises
            return f"the hub failed ({_one_line(error)})"
        return ""

    reason = _within(ANSWER_SECONDS, ask)
    if reason is None:
        raise HubError(f"the hub did not answer within {ANSWER_SECONDS:g} s")
    if reason:
        raise HubError(reason)


def _gated(name: str) -> str:
    return f"'{name}' is gated: ask for access at its page on the hub, then run `hf auth login`"


def _download(name: str, config: str | None, revision: str | None) -> Mapping[str, Any]:
    from datasets import load_dataset

    chosen = {key: value for key, value in (("name", config), ("revision", revision)) if value is not None}
    try:
        with _bounded_silence():
            loaded: Mapping[str, Any] = load_dataset(name, **chosen)
    except Exception as error:  # `datasets` raises a dozen types, and those of what it calls
        text = _one_line(error)
        raise HubError(_gated(name) if "gated" in text else f"the hub failed ({text})") from error
    return loaded


@contextmanager
def _bounded_silence() -> Iterator[None]:
    """Let the library wait :data:`SILENCE_SECONDS` for a byte, where the user's environment says nothing about it.

    Its own way to say so, the environment, is read when it is imported, which may have been long ago.
    """
    from huggingface_hub import constants

    names = [name for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT") if not os.environ.get(name)]
    before = {name: getattr(constants, name) for name in names}
    for name in names:
        setattr(constants, name, SILENCE_SECONDS)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


def _cached(name: str, config: str | None) -> Mapping[str, Any]:
    """The copy that ``datasets`` keeps, read as files: its own loader asks the hub first, for 23 s of retries."""
    home = os.environ.get("HF_HOME") or cache_folder() / "huggingface"
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or Path(home) / "datasets").expanduser()
    # owner___name / configuration / version / hash; what is still being written ends in ".incomplete"
    versions = [
        path
        for path in cache.glob(f"{name.replace('/', '___')}/{config or '*'}/*/*")
        if path.is_dir() and path.suffix != ".incomplete" and any(path.glob("*.arrow"))
    ]
    if not versions:
        return {}
    configs = sorted({path.parents[1].name for path in versions})
    if len(configs) > 1:
        raise HubError(f"the cache has {', '.join(configs)} of '{name}', and no config= says which")
    from datasets import Dataset, concatenate_datasets

    shards: dict[str, list[Any]] = defaultdict(list)
    pattern = re.compile(rf"{re.escape(name.rpartition('/')[2])}-(.+?)(-\d{{5}}-of-\d{{5}})?\.arrow")
    for path in sorted(max(versions, key=lambda folder: folder.stat().st_mtime).glob("*.arrow")):
        if match := pattern.fullmatch(path.name):
            shards[match[1]].append(Dataset.from_file(str(path)))
    return {split: concatenate_datasets(parts) for split, parts in shards.items()}
