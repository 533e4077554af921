"""The console of a cluster that asks for tokens."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from conftest import address
from nodes import Cluster, Refused, binary, until
from page import Page
from selenium import webdriver


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str, str]]:
    """A cluster, the token of an administrator, and one that may only look."""
    made = subprocess.run([binary(), "token", "bootstrap", "-o", "json"], check=True, capture_output=True)
    bootstrap = json.loads(made.stdout)
    hash = bootstrap["bootstrap_token_hash"]
    cluster = Cluster(tmp_path_factory.mktemp("closed"), f'[security]\nmode = "enforce"\nbootstrap_token_hash = "{hash}"\n')
    try:
        cluster.start()
        grants = [{"scope": "channel:*", "actions": ["read"]}, {"scope": "cluster", "actions": ["read"]}]
        cluster.call("PUT", "/v1/roles/viewer", {"grants": grants}, token=bootstrap["token"])
        make = lambda role: cluster.call("POST", "/v1/tokens", {"description": f"the {role}", "roles": [role]}, token=bootstrap["token"])
        admin, viewer = make("admin")["token"], make("viewer")["token"]
        cluster.call("PUT", "/v1/channels/orders", {}, token=admin)
        yield cluster, admin, viewer
    finally:
        cluster.stop()


@pytest.fixture
def page(closed: tuple[Cluster, str, str], chrome: webdriver.Chrome, request: pytest.FixtureRequest) -> Page:
    page = Page(chrome, address(closed[0].nodes[0], request))
    page.fresh()
    return page


def log_in(page: Page, token: str) -> None:
    page.write("token", token)
    page.click('[data-testid="login"] button', "Log in")


def test_a_stranger_is_asked_for_a_token_and_sees_nothing(page: Page) -> None:
    page.open("channels")
    page.id("login")
    assert "orders" not in page.words()
    log_in(page, "lim_0123456789abcdef_00000000000000000000000000000000")
    page.find('[data-testid="login"] [data-testid="problem"]')
    assert page.run("return sessionStorage.length") == 0, "a wrong token is not kept"


def test_who_logs_in_sees_what_the_token_may_see_until_logging_out(page: Page, closed: tuple[Cluster, str, str]) -> None:
    page.open("overview")
    page.id("login")
    log_in(page, closed[1])
    page.gone("dialog")
    page.id("lights", "leader")
    page.id("who", "token ")
    assert page.run("return localStorage.length") == 0, "the token is not kept beyond the tab"
    page.click("#nav a", "Security")
    page.find('[data-testid="tokens"]', "the viewer")
    page.find('[data-testid="audit"]', "token.create")
    page.click('[data-testid="session"]', "Log out")
    page.id("login")
    until("what it saw is gone", lambda: "the viewer" not in page.words())
    assert page.run("return sessionStorage.length") == 0


def test_what_a_token_may_not_do_is_refused_in_words(page: Page, closed: tuple[Cluster, str, str]) -> None:
    cluster, admin, viewer = closed
    page.open("channels/orders/publish")
    page.id("login")
    log_in(page, viewer)
    page.gone("dialog")
    page.click("form button", "Publish")
    page.find('[data-code="PERMISSION_DENIED"]')
    page.open("security")
    page.find('[data-code="PERMISSION_DENIED"]')
    assert cluster.call("GET", "/v1/channels/orders", token=admin)["messages"] == 0
    with pytest.raises(Refused):
        cluster.call("GET", "/v1/channels/orders")


def test_a_token_that_is_made_is_shown_once_and_works(page: Page, closed: tuple[Cluster, str, str]) -> None:
    cluster, admin, _ = closed
    page.open("security")
    page.id("login")
    log_in(page, admin)
    page.gone("dialog")
    page.find('[data-testid="token-roles"] label', "viewer").click()
    page.write("token-description", "made here")
    page.click('[data-testid="new-token"] button', "Make a token")
    token = page.id("new-token-text").get_attribute("value")
    page.click("dialog button", "Done")
    page.find('[data-testid="tokens"]', "made here")
    assert token and token not in page.words()
    assert cluster.call("GET", "/v1/channels/orders", token=token)["name"] == "orders"
