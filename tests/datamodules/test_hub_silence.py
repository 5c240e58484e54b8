from __future__ import annotations

import pytest

from trainoff.datamodules import hub


def test_silence_is_bounded_for_the_call_alone_and_the_users_word_counts(monkeypatch):
    from huggingface_hub import constants

    before = constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT
    seen = []

    def load(*_: str) -> None:
        seen.append((constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT))
        raise ConnectionError("lost\non the way")

    monkeypatch.setattr("datasets.load_dataset", load)
    monkeypatch.delenv("HF_HUB_DOWNLOAD_TIMEOUT", raising=False)
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)
    with pytest.raises(hub.HubError, match=r"the hub failed \(lost on the way\)"):
        hub._download("a/b", None, None)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "60")
    with pytest.raises(hub.HubError):
        hub._download("a/b", None, None)
    assert seen == [(hub.SILENCE_SECONDS, hub.SILENCE_SECONDS), (before[0], hub.SILENCE_SECONDS)]
    assert before == (constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.HF_HUB_ETAG_TIMEOUT)
