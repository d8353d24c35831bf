import json

import pytest

from pilothouse.mounted.config import AgentConfig, Mounted, parse
from pilothouse.problems import Invalid

CONFIG = AgentConfig(
    url="https://vault.bank.example:8200",
    ca_file="",
    auth_mount="kubernetes-prod",
    role="payments.api",
    token_file="/var/run/pilothouse/token",
    key_value_mount="kv-prod",
    secrets=(
        Mounted("payments/database", "/pilothouse/secrets/0", "/secrets/database", ("user", "password")),
        Mounted("payments/signing", "/pilothouse/secrets/1", "/secrets/signing"),
    ),
    file_mode=0o440,
)


def changed(path, value):
    data = json.loads(CONFIG.to_json())
    inside = data
    for part in path[:-1]:
        inside = inside[part]
    if value is None:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return json.dumps(data)


def test_what_is_written_is_read():
    assert parse(CONFIG.to_json()) == CONFIG
    assert "\n" not in CONFIG.to_json()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("version",), 2, "version 2"),
        (("vault", "url"), None, "vault.url .* is missing"),
        (("vault", "skipVerify"), True, "vault.skipVerify .* is unknown"),
        (("interval",), "30", "interval .* is no int"),
        (("interval",), True, "interval .* is no int"),
        (("interval",), 0, "1 to 86400"),
        (("budget",), 4000, "1 to 3600"),
        (("fileMode",), "0666", "only reads"),
        (("fileMode",), "444", "only reads"),
        (("login",), [], "login .* is no mapping"),
        (("login", "tokenFile"), "token", "no absolute path"),
        (("secrets",), [], "names no secret"),
        (("secrets", 0, "folder"), "/a/../etc", "no absolute path"),
        (("secrets", 0, "folder"), "/pilothouse/secrets/1", "one folder"),
        (("secrets", 0, "keys"), ["../x"], "no names of files"),
        (("secrets", 0, "values"), {}, "unknown"),
    ],
)
def test_what_is_wrong_is_named(path, value, said):
    with pytest.raises(Invalid, match=said):
        parse(changed(path, value))


@pytest.mark.parametrize("text", ["", "[]", "{", "x" * 300_000])
def test_what_is_no_configuration(text):
    with pytest.raises(Invalid, match="configuration"):
        parse(text)
