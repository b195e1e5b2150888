"""Secrets in URIs are found however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celltune.search.uris import secret_in, without_secrets


@pytest.mark.parametrize(
    ("uri", "secret"),
    [
        ("http://user:pw@host", "a password"),
        ("HTTP://user:pw@host", "a password"),
        (" https://user:pw@host", "a password"),
        ("'https://user:pw@host'", "a password"),
        ("http:user:pw@host", "a password"),
        ("https://token@host/x", "a user name or token"),
        ("postgresql://u:pw@host/x", "a password"),
        ("postgresql+psycopg2://u:p%40w@host/x", "a password"),
        ("postgresql://u:p/w?x@host/x", "a password"),
        ("mysql://u:12/w@host/x", "a password"),
        ("s3://key:secret@bucket/x", "a password"),
        ("s3://key:sec/ret@bucket/x", "a password"),
        ("abfs://:key@account/x", "a password"),
        ("ray://user:pw@host:10001", "a password"),
        ("https://u%3Apw%40host", "a password"),
        ("u:pw@host:5000", "a password"),
        ("https://host/x?password=abc", "the parameter 'password'"),
        ("https://host/x?a=1&Access%5FToken=abc", "the parameter 'Access_Token'"),
        ("https://host/x?api-key=abc", "the parameter 'api-key'"),
        ("https://host#token=abc", "the parameter 'token'"),
        ("https://host/x?jwt=abc", "the parameter 'jwt'"),
        ("https://host/x?Authorization=Bearer%20abc", "the parameter 'Authorization'"),
        ("postgresql:///db?user=u&pwd=p", "the parameter 'pwd'"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Du%3BPWD%3Dx", "the parameter 'PWD'"),
    ],
)
def test_a_secret_is_named_and_not_shown(uri: str, secret: str) -> None:
    assert secret_in(uri) == secret
    if "://" in uri:
        plain = uri.strip(" '")
        scheme = plain.partition("://")[0]
        assert without_secrets(f"at {plain}") == f"at {scheme}://..."


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:5000",
        "http://[::1]:5000/x",
        "https://host:5000/a@b",
        "sqlite:///study.db",
        "databricks://profile",
        "postgresql://user@host/x",
        "abfss://container@account.dfs.core.windows.net/x",
        "hdfs://user@host:9000/x",
        "s3://bucket/path?endpoint_override=host:9000&scheme=http",
        "arn:aws:sagemaker:us-east-1:123:mlflow-tracking-server/x",
        "mlruns",
    ],
)
def test_other_addresses_have_no_secret(uri: str) -> None:
    assert secret_in(uri) is None
    assert without_secrets(f"at '{uri}'") == f"at '{uri}'"


NAMES = st.text("abcXYZ019-._~!$&'()*+,;=", min_size=1, max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["http", "HTTPS", "postgresql", "s3", "ray"]), NAMES, NAMES)
def test_every_password_before_a_host_is_found(scheme: str, user: str, password: str) -> None:
    uri = f"{scheme}://{user}:{password}@host/path"
    assert secret_in(uri) == "a password"
    assert without_secrets(f"Set {uri} again") == f"Set {scheme}://... again"
