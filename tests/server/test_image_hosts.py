"""Tests of the list of hosts: which URLs and which addresses it lets through."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import ConfigError, InvalidRequest, UnsupportedParameter
from outrider.server.image_hosts import ImageHosts, Target

PARAM = "messages[0].content[1].image_url.url"
HOSTS = ImageHosts(["img.example", "cdn.example:8443", "10.0.0.5", "127.0.0.1:9000", "[fd00::7]"])


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://img.example/a.png", Target("http", "img.example", 80, "/a.png")),
        ("HTTPS://IMG.Example./a?b=%20c#d", Target("https", "img.example", 443, "/a?b=%20c")),
        (" https://img.example ", Target("https", "img.example", 443, "/")),
        ("https://img.example:443?q", Target("https", "img.example", 443, "/?q")),
        ("http://cdn.example:8443/", Target("http", "cdn.example", 8443, "/")),
        ("http://10.0.0.5/x", Target("http", "10.0.0.5", 80, "/x")),
        ("http://[::ffff:10.0.0.5]/x", Target("http", "10.0.0.5", 80, "/x")),
        ("http://[FD00:0::7]/x", Target("http", "fd00::7", 80, "/x")),
    ],
)
def test_urls_of_listed_hosts_are_taken_apart(url: str, target: Target) -> None:
    assert HOSTS.target(url, PARAM) == target


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/",
        "http://img.example.evil.example/",
        "http://evil-img.example/",
        "http://img.example:8080/",
        "https://img.example:80/",
        "http://cdn.example/",
        "http://127.0.0.1/",
        "http://10.0.0.6/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://localhost/",
    ],
)
def test_other_hosts_and_ports_are_refused_and_the_setting_is_named(url: str) -> None:
    with pytest.raises(UnsupportedParameter, match="--image-hosts") as caught:
        HOSTS.target(url, PARAM)
    assert caught.value.param == PARAM


@pytest.mark.parametrize(
    "url",
    [
        "http://img.example@evil.example/",
        "http://user:pass@img.example/",
        "http://evil.example\\@img.example/",
        "http://img.example\\.evil.example/",
        "http:///img.example/",
        "http://img.example:80:90/",
        "http://img.example:/",
        "http://img.example:port/",
        "http://img.example /",
        "http://img.example/a b",
        "http://img.example/\x00",
        "http://img.example/\r\nhost: x",
        "http://img.example\n/",
        "http://\u0131mg.example/",
        "http://img\u3002example/",
        "http://%69mg.example/",
        "http://0x0a000005/",
        "http://167772165/",
        "http://012.0.0.5/",
        "http://10.5/",
        "http://10.0.0.5.1/",
        "http://[10.0.0.5]/",
        "http://[fd00::7%25eth0]/",
        "http://[fd00::7/",
        "http://..img.example/",
        "http://-/",
        "http://?/",
        "http:img.example",
        "//img.example/",
        "ftp://img.example/",
        "http://img.example/" + "a" * 2048,
    ],
)
def test_urls_that_parsers_could_read_differently_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        HOSTS.target(url, PARAM)
    assert caught.value.param == PARAM
    assert len(caught.value.message) < 300


@given(st.text(max_size=60))
def test_whatever_a_url_holds_it_leads_to_a_listed_host_or_nowhere(text: str) -> None:
    for url in (f"http://{text}", f"http://img.example{text}", f"http://{text}img.example/"):
        try:
            target = HOSTS.target(url, PARAM)
        except InvalidRequest:
            continue
        assert (target.host, target.port) in {
            ("img.example", 80),
            ("cdn.example", 8443),
            ("10.0.0.5", 80),
            ("127.0.0.1", 9000),
            ("fd00::7", 80),
        }


NAMED = Target("http", "img.example", 80, "/")
NOT_PUBLIC = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.0.0.6",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "198.18.0.1",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:1::80ff:fffe",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_name_may_not_lead_to_an_address_that_is_not_public(address: str) -> None:
    assert not HOSTS.allows(address, NAMED)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"]
)
def test_a_name_may_lead_to_public_addresses(address: str) -> None:
    assert HOSTS.allows(address, NAMED)


def test_a_private_address_is_allowed_if_it_is_listed_itself_with_its_port() -> None:
    assert HOSTS.allows("10.0.0.5", NAMED)
    assert HOSTS.allows("::ffff:10.0.0.5", NAMED)
    assert not HOSTS.allows("127.0.0.1", NAMED)
    assert HOSTS.allows("127.0.0.1", NAMED._replace(port=9000))


@given(st.ip_addresses())
def test_no_address_that_python_calls_private_is_allowed_unlisted(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.is_private or address.is_link_local or address.is_multicast:
        assert not ImageHosts(["img.example"]).allows(str(address), NAMED) or (
            isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped
        )


@pytest.mark.parametrize(
    "entry",
    ["http://a", "a/b", "a:0", "a:65536", "a:b", "*.example", "", "a b", "0x7f000001", "user@a"],
)
def test_an_entry_that_is_no_host_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="host or host:port"):
        ImageHosts([entry])


@pytest.mark.parametrize(
    "entry",
    ["169.254.169.254", "[fe80::1]:80", "0.0.0.0", "::", "fd00:ec2::254", "::ffff:169.254.1.1"],
)
def test_addresses_that_give_out_credentials_can_not_be_listed(entry: str) -> None:
    with pytest.raises(ConfigError, match="never"):
        ImageHosts([entry])


def test_an_empty_list_is_false() -> None:
    assert not ImageHosts([])
    assert HOSTS
