"""The console of an open cluster, as people use it."""

from __future__ import annotations

import pytest
from nodes import Cluster, until
from page import PHONE, Page
from selenium.webdriver.common.keys import Keys

SCHEMA = {
    "type": "object",
    "required": ["id", "amount"],
    "properties": {"id": {"type": "integer"}, "amount": {"type": "number", "minimum": 0}},
}

CONTRAST = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
const ground = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const colour = numbers(getComputedStyle(one).backgroundColor);
    if ((colour[3] ?? 1) === 1) return colour;
  }
};
const faint = [];
for (const element of document.querySelectorAll("body *")) {
  const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!says || !element.checkVisibility() || element.disabled || element.closest(".hidden, svg, [aria-busy]")) continue;
  const [a, b] = [light(numbers(getComputedStyle(element).color)), light(ground(element))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) faint.push(`${element.tagName} ${element.className} "${element.textContent.slice(0, 40)}": ${contrast.toFixed(2)}`);
}
return faint;
"""


NAMELESS = """
return [...document.querySelectorAll("input, select, textarea, button, a, summary, svg[role=img]")]
  .filter((one) => !(one.labels?.length || one.getAttribute("aria-label") || one.textContent.trim()))
  .map((one) => one.outerHTML.slice(0, 200));
"""


@pytest.fixture(scope="module")
def views(cluster: Cluster) -> dict[str, str]:
    """All views by what is there when they are drawn, with something in each of them."""
    cluster.call("PUT", "/v1/channels/shown", {"schema": SCHEMA})
    cluster.call("PATCH", "/v1/channels/shown", {"schema": {**SCHEMA, "title": "Another"}, "compatibility": "none"})
    cluster.call("PUT", "/v1/channels/shown.copy", {})
    cluster.call("PUT", "/v1/rules/shown/shown.copy", {"predicate": "amount >= 100"})
    cluster.publish("shown", *({"id": number, "amount": 20 * number} for number in range(30)))
    cluster.call("POST", "/v1/channels/shown.copy/messages?confirm=commit", raw=b"later", Liminal_Delay="30m")
    cluster.call("POST", "/v1/channels/shown/consumers", {"name": "failing", "max_attempts": 1, "start": "earliest"})
    cluster.fail_all("shown", "failing", ["out of paper", "out of ink"])
    cluster.call("POST", "/v1/claims/mails/order-1", {"lease_ms": 60_000, "owner": "w1"})
    cluster.call("PUT", "/v1/roles/reader", {"description": "Dashboards", "grants": [{"scope": "cluster", "actions": ["read"]}]})
    cluster.call("POST", "/v1/tokens", {"description": "a dashboard", "roles": ["reader"]})
    return {
        "overview": '[data-testid="lights"] li',
        "channels": '[data-testid="channels"] a',
        "channels/shown": ".messages [data-seq]",
        "channels/shown/live": '[data-testid="tail-state"]',
        "channels/shown/publish": '[data-testid="payload"]',
        "channels/shown/schemas": '[data-testid="schema-diff"]',
        "channels/shown/settings": '[data-testid="rules"] td',
        "channels/shown/consumers": '[data-testid="consumers"] a',
        "channels/shown.copy/waiting": '[data-testid="waiting"] button',
        "consumers": '[data-testid="consumers"] a',
        "consumers/shown/failing": '[data-testid="letters"] [data-seq]',
        "claims": '[data-testid="namespaces"] button',
        "cluster": '[data-testid="events"] td',
        "security": '[data-testid="no-audit"]',
    }


def test_every_view_is_whole(page: Page, views: dict[str, str]) -> None:
    """Without a complaint and from this node alone, with names for all that can be used, legible in both schemes, and not
    wider than a phone."""
    for view, drawn in views.items():
        page.look()
        page.open(view)
        page.find(drawn)
        page.find('[data-testid="node"] .dot')
        assert not page.all('[data-testid="problem"]'), view
        assert page.run(NAMELESS) == [], view
        assert page.run(CONTRAST) == [], f"{view}, light"
        page.look(PHONE, "dark")
        until(f"{view} is narrow", lambda: page.run("return innerWidth") <= PHONE[0], 5)
        assert page.run(CONTRAST) == [], f"{view}, dark"
        wide = page.run("return document.documentElement.scrollWidth")
        assert wide <= PHONE[0], f"{view} is {wide} px wide"
        for link in page.all("#nav a"):
            assert link.rect["x"] + link.rect["width"] <= PHONE[0], f"{view}: {link.text} is cut off"
        assert page.complaints() == [], view


def test_colours_follow_the_system_or_the_switch_which_is_remembered(page: Page) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    page.look(scheme="light")
    page.open("overview")
    light = page.run(ground)
    page.look(scheme="dark")
    until("the page is dark", lambda: page.run(ground) != light)
    dark = page.run(ground)
    page.click('[data-testid="theme"] option[value="light"]')
    assert page.run(ground) == light
    page.open("overview")
    page.id("theme")
    assert page.run(ground) == light
    page.click('[data-testid="theme"] option[value=""]')
    assert page.run(ground) == dark


def test_messages_appear_as_they_are_published(page: Page, cluster: Cluster, channel: str) -> None:
    cluster.publish(channel, {"before": True})
    page.open(f"channels/{channel}/live")
    page.id("tail-state", "Following")
    for number in range(1, 4):
        cluster.publish(channel, {"number": number})
        page.find(f'[data-testid="tail"] [data-seq="{number}"]', f'"number": {number}')
    assert not page.all('[data-testid="tail"] [data-seq="0"]')
    page.click('[data-testid="pause"]')
    cluster.publish(channel, {"number": 4})
    page.id("tail-state", "Paused")
    page.click('[data-testid="pause"]')
    page.find('[data-testid="tail"] [data-seq="4"]')


def test_messages_are_found_by_number_and_predicate_and_the_newest_come_first(page: Page, cluster: Cluster, channel: str) -> None:
    cluster.publish(channel, *({"n": number, "odd": number % 2 == 1} for number in range(60)))
    seqs = lambda: page.run("return [...document.querySelectorAll('[data-testid=messages] [data-seq]')].map((one) => Number(one.dataset.seq))")
    page.open(f"channels/{channel}")
    until("the newest 50 are shown", lambda: seqs() == list(range(59, 9, -1)))
    page.click("button", "Older")
    until("those before them are shown", lambda: seqs() == list(range(9, -1, -1)))
    page.write("filter", "odd == true and n < 10")
    page.click('[data-testid="browse"] button', "Show")
    until("the odd ones are shown", lambda: seqs() == [9, 7, 5, 3, 1])
    page.write("filter", "n =")
    page.click('[data-testid="browse"] button', "Show")
    page.id("problem", "column")
    page.write("filter", "")
    page.click('[data-testid="place"] option[value="seq"]')
    page.write("seq", "55")
    page.click('[data-testid="browse"] button', "Show")
    until("the last five are shown", lambda: seqs() == [55, 56, 57, 58, 59])
    page.click('[data-seq="57"] summary')
    page.find('[data-seq="57"] .json', '"n": 57')


def test_a_payload_that_looks_like_a_script_stays_text(page: Page, cluster: Cluster, channel: str) -> None:
    evil = '<img src="x" onerror="window.ran = true"><script>window.ran = true</script>'
    cluster.publish(channel, {"html": evil}, evil.encode())
    cluster.publish(channel, 7, Idempotency_Key=evil[:40])
    page.open(f"channels/{channel}")
    page.click('[data-seq="0"] summary')
    page.find('[data-seq="0"] .json', "<script>")
    assert page.run("return document.querySelectorAll('main img, main script').length + (window.ran ? 1 : 0)") == 0
    assert page.complaints() == []


def test_a_schema_objects_at_the_field_while_it_is_typed_and_when_it_is_published(page: Page, cluster: Cluster) -> None:
    cluster.call("PUT", "/v1/channels/checked", {"schema": SCHEMA})
    page.open("channels/checked/publish")
    page.id("verdict", "It fits the schema")
    page.write("payload", '{"id": 7,\n "amount": -3}')
    page.id("verdict", "refuses")
    page.find('[data-pointer="/amount"]', "line 2")
    assert cluster.call("GET", "/v1/channels/checked")["rejected"] == 0, "looking is not publishing"
    page.click("form button", "Publish")
    page.find('[data-testid="published"] [data-code="SCHEMA_VIOLATION"]')
    page.click('[data-pointer="/amount"]')
    chosen = "const t = document.querySelector('[data-testid=payload]'); return t.value.slice(t.selectionStart, t.selectionEnd)"
    assert page.run(chosen) == "-3"
    page.press("12")
    page.id("verdict", "It fits the schema")
    page.click("form button", "Publish")
    page.id("published", "checked@0")
    assert cluster.call("GET", "/v1/channels/checked/messages")["messages"][0]["payload"] == {"id": 7, "amount": 12}


def test_a_node_that_is_killed_changes_its_light_and_comes_back(page: Page, killable: Cluster) -> None:
    page.open("overview")
    lost = killable.nodes[2]
    light = f'[data-testid="lights"] [data-node="{lost.name}"]'
    page.find(f'{light}[data-health="ok"]')
    killable.kill(lost)
    page.find(f'{light}[data-health="unreachable"]', within=10)
    page.id("alarms", lost.name)
    page.id("node", "1 of 3")
    page.open("cluster")
    page.find(f'[data-testid="nodes"] [data-node="{lost.name}"]', "unreachable")
    killable.bring_back()
    page.open("overview")
    page.find(f'{light}[data-health="ok"]')
    page.id("alarms", "No alarms")


def test_leadership_is_handed_over(page: Page, cluster: Cluster) -> None:
    page.open("cluster")
    leader = page.find('[data-testid="nodes"] [data-role="leader"]').get_attribute("data-node")
    follower = page.find('[data-testid="nodes"] [data-role="follower"]').get_attribute("data-node")
    page.click(f'[data-testid="lead-{follower}"]')
    page.id("cancel").click()
    page.gone("dialog")
    assert cluster.call("GET", "/v1/cluster")["leader"] == leader
    page.click(f'[data-testid="lead-{follower}"]')
    page.id("confirm").click()
    page.find(f'[data-testid="nodes"] [data-node="{follower}"][data-role="leader"]')
    assert cluster.call("GET", "/v1/cluster")["leader"] == follower
    page.find('[data-testid="events"]', "transferred")
    led = f"return document.querySelector('[data-node={follower}] .lane')?.ariaLabel"
    until("the lane shows who leads", lambda: "led" in (page.run(led) or ""))


def test_removing_a_node_asks_for_its_name(page: Page) -> None:
    page.open("cluster")
    name = page.find('[data-testid="nodes"] [data-role="follower"]').get_attribute("data-node")
    page.click(f'[data-testid="remove-{name}"]')
    assert not page.id("confirm").is_enabled()
    page.write("confirm-word", "another")
    assert not page.id("confirm").is_enabled()
    page.write("confirm-word", str(name))
    assert page.id("confirm").is_enabled()
    page.press(Keys.ESCAPE)
    page.gone("dialog")


def test_dead_letters_are_looked_at_and_redriven(page: Page, cluster: Cluster, channel: str) -> None:
    cluster.publish(channel, {"n": 1}, {"n": 2}, {"n": 3})
    cluster.call("POST", f"/v1/channels/{channel}/consumers", {"name": "worker", "max_attempts": 1, "start": "earliest"})
    cluster.fail_all(channel, "worker", ["no paper", "no ink", "no power"])
    page.open(f"consumers/{channel}/worker")
    page.id("letters", "no ink")
    page.click('[data-testid="letters"] [data-seq="1"] summary')
    page.find('[data-testid="letters"] .json', '"n": 2')
    page.write("letter-filter", "n >= 2")
    page.click('[data-testid="letters-form"] button', "Count")
    page.id("redriven", "2 letters")
    page.click('[data-testid="letters-form"] button', "Redrive")
    page.id("confirm").click()
    page.id("redriven", "2 moved")
    assert cluster.call("GET", f"/v1/channels/{channel}")["messages"] == 5


def test_a_consumer_tells_how_far_it_is_behind_in_messages_and_in_time(page: Page, cluster: Cluster, channel: str) -> None:
    cluster.publish(channel, 1, 2, 3)
    cluster.call("POST", f"/v1/channels/{channel}/consumers", {"name": "slow", "start": "earliest"})
    page.open(f"consumers/{channel}/slow")
    page.id("consumer", "3 messages")
    behind = "return [...document.querySelectorAll('[data-testid=consumer] div')].find((one) => one.textContent.startsWith('Behind by'))?.textContent"
    until("the time is told", lambda: (page.run(behind) or "").endswith("s"))


def test_a_message_is_published_with_the_keyboard_alone(page: Page, cluster: Cluster, channel: str) -> None:
    page.open("overview")
    page.id("lights", "ok")
    link = lambda text: lambda element: element.tag_name == "a" and element.text == text
    page.tab_to("the skip link", link("Skip to the content"), 1)
    page.tab_to("the channels", link("Channels"))
    page.press(Keys.ENTER)
    page.find('[data-testid="channels"] a', channel)
    page.tab_to("the channel", link(channel))
    page.press(Keys.ENTER)
    page.find("nav.pages a", "Publish")
    page.tab_to("the page to publish", link("Publish"))
    page.press(Keys.ENTER)
    page.id("payload")
    page.tab_to("the payload", lambda element: element.get_attribute("data-testid") == "payload")
    page.replace_all('{"by": "keyboard"}')
    page.tab_to("the button", lambda element: element.tag_name == "button" and element.text == "Publish")
    page.press(Keys.ENTER)
    page.id("published", f"{channel}@0")
    assert cluster.call("GET", f"/v1/channels/{channel}/messages")["messages"][0]["payload"] == {"by": "keyboard"}


def test_figures_of_the_past_are_there_at_once_and_new_ones_come(page: Page, cluster: Cluster, channel: str) -> None:
    page.open("overview")
    page.id("feed", "Live")
    stored = "return Number([...document.querySelectorAll('[data-testid=counts] dd')].at(-1)?.textContent.replaceAll(',', ''))"
    before = until("figures came", lambda: page.run(stored))
    assert page.run("return document.querySelector('[data-figure=memory_bytes] .line').getAttribute('d').length") > 20
    cluster.publish(channel, *range(5))
    until("they count what was published", lambda: page.run(stored) == before + 5, 10)
    page.find('[data-figure="publish_p50_ms"]', "ms")
    page.find('[data-figure="log_sync_p99_ms"]', "ms")
