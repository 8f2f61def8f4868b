"""Addresses of instances."""

import pytest

from atelier.pool.places import InstanceUrlInvalid, checked_url, is_loopback, place_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://gpu-7:8188/", "http://gpu-7:8188"),
        ("https://gpu.example/comfy", "https://gpu.example/comfy"),
        # inside the network is where instances are
        ("http://10.0.0.7:8188", "http://10.0.0.7:8188"),
        ("http://127.0.0.1:8188", "http://127.0.0.1:8188"),
        ("http://[fd12::7]:8188", "http://[fd12::7]:8188"),
        ("http://ada:secret@gpu", "http://ada:secret@gpu"),
    ],
)
def test_addresses_of_instances(url, expected):
    assert checked_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gpu:8188",
        "ftp://gpu:8188",
        "file:///etc/passwd",
        "http://",
        "http://:8188",
        "http://gpu:0",
        "http://gpu:99999",
        "http://gpu:8188?x=1",
        "http://gpu:8188/#x",
        "http://gpu :8188",
        "http://gpu\r\nX: y",
        "http://gpu\\@evil",
        "http://[::1",
        "http://пример",
        "http://" + "a" * 600,
        # where clouds keep the secrets of a machine
        "http://169.254.169.254/latest",
        "http://metadata.google.internal",
        "http://[fe80::1]:8188",
        "http://[::ffff:169.254.169.254]",
        "http://[fd00:ec2::254]",
        "http://224.0.0.1",
    ],
)
def test_what_is_no_address_of_an_instance_is_refused(url):
    with pytest.raises(InstanceUrlInvalid) as caught:
        checked_url(url)
    assert caught.value.data["field"] == "url"


def test_refusal_does_not_tell_the_password():
    with pytest.raises(InstanceUrlInvalid) as caught:
        checked_url("ftp://ada:secret@gpu")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shared", "expected"),
    [
        ("http://127.0.0.1:8188", False, ("127.0.0.1:8188", "h1")),
        ("http://127.0.0.1:8188", True, ("127.0.0.1:8188@h1", "h1")),
        ("http://localhost:8188", True, ("localhost:8188@h1", "h1")),
        ("http://[::1]:8188", True, ("[::1]:8188@h1", "h1")),
        ("http://0.0.0.0:8188", True, ("0.0.0.0:8188@h1", "h1")),
        ("http://gpu-7:8188", True, ("gpu-7:8188", None)),
        ("http://10.0.0.7:8188", True, ("10.0.0.7:8188", None)),
    ],
)
def test_loopback_address_belongs_to_its_host(url, shared, expected):
    assert place_of(url, host="h1", shared=shared) == expected
    assert is_loopback(url) == (expected[1] is not None)
