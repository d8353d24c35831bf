import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.mounted.layout import MARK, dummy_files, files_of, is_file_name
from pilothouse.problems import Invalid


def test_a_key_is_a_file_and_text_stays_as_it_is():
    data = {"password": "ä\n", "rounds": 3, "hosts": ["a", "b"], "on": True}
    assert files_of(data) == {
        "password": "ä\n".encode(),
        "rounds": b"3",
        "hosts": b'["a","b"]',
        "on": b"true",
    }
    assert list(files_of(data, ("password",))) == ["password"]


@pytest.mark.parametrize("key", ["../../etc/passwd", "..data", ".", "", "a/b", "a b", "a\n", "x" * 254, "ä"])
def test_a_key_that_would_leave_the_folder_is_refused(key):
    assert not is_file_name(key)
    with pytest.raises(Invalid, match="cannot be the name of a file"):
        files_of({key: "the value"})
    assert files_of({key: "the value", "good": "1"}, ("good",)) == {"good": b"1"}


def test_what_is_missing_is_named_without_a_value():
    with pytest.raises(Invalid) as caught:
        files_of({"user": "hidden"}, ("user", "password"))
    assert "no key password" in caught.value.message
    assert "hidden" not in f"{caught.value.message}{caught.value.hint}"
    with pytest.raises(Invalid, match="no keys"):
        files_of({})


def test_dummies_have_the_shape_of_the_real_ones_and_cannot_be_taken_for_them():
    keys = ("username", "password", "host", "port", "url", "tls.key", "ca.crt", "config.json", "adminEmail", "dsn")
    found = {key: value.decode() for key, value in dummy_files("payments/database", keys).items()}
    assert sorted(found) == sorted(keys)
    assert found["password"] == "dummy-payments-database-password"
    assert found["port"] == "5432"
    assert found["host"] == "localhost"
    assert json.loads(found["config.json"])
    assert found["url"].startswith("https://dummy.example/")
    assert all(MARK in value.lower() for key, value in found.items() if key not in ("port", "host"))
    assert not re.search("BEGIN (RSA |EC )?(PRIVATE KEY|CERTIFICATE)", "".join(found.values()))
    assert dummy_files("a/b", ()) == {"value": b"dummy-a-b-value"}


@given(st.text(max_size=300))
def test_names_that_pass_stay_in_their_folder(text):
    if is_file_name(text):
        assert "/" not in text
        assert "\0" not in text
        assert text not in (".", "..")


@given(st.from_regex(r"[a-zA-Z0-9_.-]{1,40}", fullmatch=True).filter(is_file_name))
def test_a_dummy_is_the_same_each_time(key):
    assert dummy_files("x/y", (key,)) == dummy_files("x/y", (key,))
    assert dummy_files("x/y", (key,))[key]
