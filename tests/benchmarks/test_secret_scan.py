"""What looks like a secret is found, named by its place and never shown; what only sounds like one is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainoff.benchmarks.secret_scan import REMOVED, refuse_secrets, secret_paths, without_secrets, without_values
from trainoff.errors import UserError

SECRETS = {
    "Amazon": "AKIA" + "ABCDEFGHIJ234567",
    "GitHub": "ghp_" + "a1B2c3D4e5" * 4,
    "Hugging Face": "hf_" + "abcdefGHIJ" * 4,
    "OpenAI": "sk-" + "proj-abcdefghijklmnop1234",
    "Slack": "xoxb-" + "123456789012-abcdefghij",
    "Google": "AIza" + "a" * 35,
    "JWT": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "c2lnbmF0dXJl",
    "URL": "https://somebody:" + "hunter2@example.org/data",
    "PEM": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
}
HARMLESS = {
    "optimizer": {"name": "adamw", "lr": 0.01},
    "pad_token": "<pad>",
    "mask_token": "[MASK]",
    "max_tokens": "4096",
    "tokenizer": "bpe",
    "key": "value",
    "num_heads": 8,
    "class_path": "my_project.sk.PasswordStrengthNet",
    "password": None,
    "api_key": "",
    "url": "https://example.org/a:b/c",
    "digest": "0123456789abcdef" * 4,
    "notes": "task-oriented, desk-bound, risk-averse",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_value_of_a_known_form_is_found_wherever_it_stands(secret):
    data = {"tasks": {"t": {"data": [{"init_args": {"address": f"x {secret} y"}}]}}}
    assert list(secret_paths(data)) == [("tasks", "t", "data", "0", "init_args", "address")]
    with pytest.raises(UserError) as caught:
        refuse_secrets(data, "my-suite.yaml")
    assert caught.value.where == "my-suite.yaml.tasks.t.data.0.init_args.address"
    assert secret not in str(caught.value)
    assert secret.split("@")[0][-6:] not in str(without_secrets(data))
    assert REMOVED in without_values(f"Traceback: {secret}")


@pytest.mark.parametrize(
    "key", ["api_key", "apiKey", "API-KEY", "db_password", "password", "secret", "client_secret", "hf_token",
            "access_token", "aws_access_key_id", "private_key", "credentials", "wandb_token"]
)  # fmt: skip
def test_a_value_is_found_by_its_key(key):
    assert list(secret_paths({"init_args": {key: "correct horse"}})) == [("init_args", key)]
    assert without_secrets({key: "correct horse"}) == {key: REMOVED}


def test_what_only_sounds_like_one_is_left_alone():
    assert list(secret_paths(HARMLESS)) == []
    assert without_secrets(HARMLESS) == HARMLESS
    refuse_secrets(HARMLESS)


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain_data)
def test_what_is_cleaned_holds_no_secret_and_is_cleaned_once(data):
    clean = without_secrets(data)
    assert list(secret_paths(clean)) == []
    assert without_secrets(clean) == clean
    if not list(secret_paths(data)):
        assert clean == data
