"""What the tests of the console share: a cluster, and a browser that looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from assets import serve
from nodes import Cluster, Node
from page import Page, launch, programs
from selenium import webdriver


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="DIR", help="write the pictures of the documentation into this directory")
    parser.addoption("--assets", action="store_true", help="serve the console's files from the source tree, not from the binary")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def killable(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster for a test that kills nodes; it is whole again afterwards."""
    yield cluster
    cluster.bring_back()


@pytest.fixture(scope="session")
def chrome() -> Iterator[webdriver.Chrome]:
    found = programs()
    if found is None:
        pytest.exit("chromium and chromedriver are needed: install them, or name them in LIMINAL_CHROMIUM and LIMINAL_CHROMEDRIVER", returncode=2)
    chrome = launch(*found)
    try:
        yield chrome
    finally:
        chrome.quit()


def address(node: Node, request: pytest.FixtureRequest) -> str:
    if not request.config.getoption("--assets"):
        return node.address
    server = serve(0, node.http)
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def page(cluster: Cluster, chrome: webdriver.Chrome, request: pytest.FixtureRequest) -> Page:
    """The console of the first node, which no test kills."""
    page = Page(chrome, address(cluster.nodes[0], request))
    page.fresh()
    return page


@pytest.fixture
def channel(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """A channel of the test's own."""
    name = str(request.node.name).replace("_", "-")[:60]
    cluster.call("PUT", f"/v1/channels/{name}", {})
    return name


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest) -> Path:
    given = request.config.getoption("--screenshots")
    if not given:
        pytest.skip("only with --screenshots")
    directory = Path(given)
    directory.mkdir(parents=True, exist_ok=True)
    return directory
