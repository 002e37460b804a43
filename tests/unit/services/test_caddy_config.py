"""What the proxy is told, without starting it."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from openmwaa.services.caddy_config import build_config, certificate_subjects
from openmwaa.settings import Settings


def settings(**values: Any) -> Settings:
    return Settings(home=Path("/srv/openmwaa"), port_base=8750, **values)


def listeners(config: dict[str, Any]) -> list[str]:
    return [place for server in config["apps"]["http"]["servers"].values() for place in server["listen"]]


@pytest.mark.parametrize("domain", [None, "mwaa.example.com"])
def test_every_listener_is_on_loopback_and_on_the_https_port(domain: str | None) -> None:
    places = listeners(build_config(settings(domain=domain)))
    assert len(places) == len(set(places)) == 251
    assert all(ip_address(place.rpartition(":")[0]).is_loopback for place in places)
    assert {place.rpartition(":")[2] for place in places} == {"8750"}


def test_certificates_are_for_our_own_addresses_and_names_only() -> None:
    subjects = certificate_subjects(settings())
    assert len(subjects) == 252
    assert set(subjects) - {"localhost"} == {
        place.rpartition(":")[0] for place in listeners(build_config(settings()))
    }
    named = certificate_subjects(settings(domain="MWAA.Example.com."))
    assert set(named) - set(subjects) == {"mwaa.example.com", "*.mwaa.example.com"}


def test_nothing_can_change_the_configuration_while_it_runs() -> None:
    assert build_config(settings())["admin"] == {"disabled": True, "config": {"persist": False}}


def test_environment_requests_go_through_forward_authentication_and_claims_are_dropped_first() -> None:
    routes = build_config(settings())["apps"]["http"]["servers"]["environments"]["routes"]
    handlers = [(route.get("match"), route["handle"][0]) for route in routes]
    assert handlers[0][0] is None
    assert "*openmwaa*" in handlers[0][1]["request"]["delete"]
    assert handlers[1][0] == [{"path": ["/aws_mwaa/*", "/pluginsv2/aws_mwaa/*", "/_openmwaa/*"]}]
    assert handlers[2][1]["rewrite"] == {"method": "GET", "uri": "/route"}
    assert handlers[2][1]["upstreams"] == [{"dial": "unix//srv/openmwaa/run/gateway.sock"}]
    assert handlers[3][1]["upstreams"] == [{"dial": "{http.vars.openmwaa_upstream}"}]
    assert len(routes) == 4


def test_below_a_domain_the_api_s_names_stay_with_the_api() -> None:
    routes = build_config(settings(domain="mwaa.example.com"))["apps"]["http"]["servers"]["api"]["routes"]
    by_name = next(route for route in routes if "host" in route.get("match", [{}])[0])
    assert by_name["match"] == [
        {
            "host": ["*.mwaa.example.com"],
            "not": [{"host": ["api.mwaa.example.com", "env.mwaa.example.com", "ops.mwaa.example.com"]}],
        }
    ]
    assert routes[-1]["handle"][0]["upstreams"] == [{"dial": "unix//srv/openmwaa/run/control.sock"}]


def test_two_homes_share_no_address() -> None:
    other = Settings(home=Path("/srv/other"), port_base=8751)
    shared = set(certificate_subjects(settings())) & set(certificate_subjects(other))
    assert shared == {"127.0.0.1", "localhost"}


def test_the_log_keeps_no_headers_and_no_query_strings() -> None:
    fields = build_config(settings())["logging"]["logs"]["default"]["encoder"]["fields"]
    assert fields["request>headers"] == {"filter": "delete"}
    assert json.dumps(fields["request>uri"])
