"""The calls with one answer that manage channels, consumers and rules, and that look at the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._admin_types import (
    Channel,
    ChannelConfig,
    ClusterStatus,
    Compatibility,
    ConsumerConfig,
    ConsumerState,
    DeadLetter,
    Delayed,
    NodeStatus,
    Order,
    Quota,
    Redriven,
    Retention,
    Rule,
)
from ._claims import ClaimNamespace
from ._error import LiminalError, of_proto, refused
from ._pool import Method, Pool
from ._proto import admin_pb2 as admin
from ._proto import broker_pb2 as pb
from ._proto import claims_pb2 as claims
from ._proto import consumers_pb2 as consumers
from ._proto import security_pb2 as security
from ._types import Message, Start, start_to_proto, time_from_ms, to_ms

# How long one step of a redrive may take, in seconds.
REDRIVE = 30.0
# Refusals that are kept of a redrive.
REFUSALS = 100


class Management:
    """What `Client` inherits, so that its own file is about messages."""

    _pool: Pool

    async def _pages(self, method: Method, request: Any, items: Callable[[Any], Any]) -> list[Any]:
        """All items of a list that comes in pages, each with the name after which the next one begins."""
        found: list[Any] = []
        while True:
            page = await self._pool.call(method, request)
            found.extend(items(page))
            if not page.HasField("next_after"):
                return found
            request.after = page.next_after

    async def create_channel(self, name: str, config: ChannelConfig = ChannelConfig()) -> Channel:
        """Creates a channel. The same name with the same configuration is no error."""
        request = pb.CreateChannelRequest(name=name, config=config._proto())
        response: pb.CreateChannelResponse = await self._pool.call(
            lambda link: link.channels.CreateChannel, request, leader=True
        )
        return Channel._of(response.channel)

    async def channel(self, name: str) -> Channel:
        """One channel."""
        request = pb.GetChannelRequest(name=name)
        response: pb.GetChannelResponse = await self._pool.call(lambda link: link.channels.GetChannel, request)
        return Channel._of(response.channel)

    async def channels(self) -> list[Channel]:
        """All channels by name."""
        found = await self._pages(
            lambda link: link.channels.ListChannels, pb.ListChannelsRequest(), lambda page: page.channels
        )
        return [Channel._of(one) for one in found]

    async def update_channel(
        self,
        name: str,
        *,
        schema: str | None = None,
        dedup_window: float | None = None,
        compatibility: Compatibility | None = None,
        retention: Retention | None = None,
        quarantine: str | None = None,
        quota: Quota | None = None,
    ) -> Channel:
        """Changes a channel: what is None stays as it is, an empty schema removes it."""
        request = pb.UpdateChannelRequest(
            name=name,
            schema=schema,
            dedup_window_ms=None if dedup_window is None else to_ms(dedup_window, 1),
            compatibility=None if compatibility is None else compatibility.value,  # type: ignore[arg-type]
            retention=None if retention is None else retention._proto(),
            quarantine=quarantine,
            quota=None if quota is None else quota._proto(),
        )
        response: pb.UpdateChannelResponse = await self._pool.call(
            lambda link: link.channels.UpdateChannel, request, leader=True, safe=False
        )
        return Channel._of(response.channel)

    async def delete_channel(self, name: str) -> None:
        """Deletes a channel with all its messages."""
        request = pb.DeleteChannelRequest(name=name)
        await self._pool.call(lambda link: link.channels.DeleteChannel, request, leader=True, safe=False)

    async def trim_channel(
        self, name: str, *, from_seq: int | None = None, newest: int | None = None, last: float | None = None
    ) -> int:
        """Removes the oldest messages: those that stay are given as a first sequence number, as a number of the newest, or as
        the last so many seconds. Gives the first sequence number that is left."""
        if sum(value is not None for value in (from_seq, newest, last)) != 1:
            raise refused("say which messages stay, by one of from_seq, newest and last")
        request = pb.TrimChannelRequest(
            name=name, from_seq=from_seq, newest=newest, last_ms=None if last is None else to_ms(last)
        )
        response: pb.TrimChannelResponse = await self._pool.call(
            lambda link: link.channels.TrimChannel, request, leader=True, safe=from_seq is not None
        )
        return response.first_seq

    async def put_rule(self, rule: Rule) -> Rule:
        """Adds a rule between channels, or changes its predicate."""
        proto = pb.Rule(source=rule.source, target=rule.target, predicate=rule.predicate)
        await self._pool.call(lambda link: link.channels.PutRule, pb.PutRuleRequest(rule=proto), leader=True)
        return rule

    async def delete_rule(self, source: str, target: str) -> None:
        """Removes a rule between channels."""
        request = pb.DeleteRuleRequest(source=source, target=target)
        await self._pool.call(lambda link: link.channels.DeleteRule, request, leader=True, safe=False)

    async def rules(self) -> list[Rule]:
        """All rules between channels, by source and target."""
        response: pb.ListRulesResponse = await self._pool.call(
            lambda link: link.channels.ListRules, pb.ListRulesRequest()
        )
        return [Rule(rule.source, rule.target, rule.predicate) for rule in response.rules]

    async def delayed(self, channel: str) -> list[Delayed]:
        """The messages of a channel that wait for their time, in the order in which they were published."""
        found: list[Delayed] = []
        request = pb.ListDelayedRequest(channel=channel)
        while True:
            page: pb.ListDelayedResponse = await self._pool.call(
                lambda link: link.channels.ListDelayed, request
            )
            for one in page.messages:
                found.append(Delayed(one.id, time_from_ms(one.due_ms), Message._of(one.message)))
            if not page.HasField("next_after_id"):
                return found
            request.after_id = page.next_after_id

    async def withdraw_delayed(self, channel: str, id: int) -> bool:
        """Takes a message back that waits for its time; whether it still waited."""
        request = pb.WithdrawDelayedRequest(channel=channel, id=id)
        response: pb.WithdrawDelayedResponse = await self._pool.call(
            lambda link: link.channels.WithdrawDelayed, request, leader=True, safe=False
        )
        return response.withdrawn

    async def create_consumer(
        self, channel: str, name: str, config: ConsumerConfig = ConsumerConfig(), start: Start = "earliest"
    ) -> ConsumerState:
        """Creates a consumer. The same name with the same configuration is no error, and leaves it where it is."""
        request = consumers.CreateConsumerRequest(
            channel=channel, name=name, config=config._proto(), start=start_to_proto(start)
        )
        response: consumers.CreateConsumerResponse = await self._pool.call(
            lambda link: link.consumers.CreateConsumer, request, leader=True
        )
        return ConsumerState._of(response.consumer)

    async def consumer_state(self, channel: str, name: str) -> ConsumerState:
        """How far a consumer is."""
        request = consumers.GetConsumerRequest(channel=channel, name=name)
        response: consumers.GetConsumerResponse = await self._pool.call(
            lambda link: link.consumers.GetConsumer, request
        )
        return ConsumerState._of(response.consumer)

    async def consumers(self, channel: str) -> list[ConsumerState]:
        """The consumers of a channel by name."""
        request = consumers.ListConsumersRequest(channel=channel)
        found = await self._pages(lambda link: link.consumers.ListConsumers, request, lambda page: page.consumers)
        return [ConsumerState._of(one) for one in found]

    async def reset_consumer(self, channel: str, name: str, start: Start) -> ConsumerState:
        """Has a consumer forget what is pending, and go on elsewhere."""
        request = consumers.ResetConsumerRequest(channel=channel, name=name, start=start_to_proto(start))
        response: consumers.ResetConsumerResponse = await self._pool.call(
            lambda link: link.consumers.ResetConsumer, request, leader=True, safe=False
        )
        return ConsumerState._of(response.consumer)

    async def delete_consumer(self, channel: str, name: str) -> None:
        """Deletes a consumer."""
        request = consumers.DeleteConsumerRequest(channel=channel, name=name)
        await self._pool.call(lambda link: link.consumers.DeleteConsumer, request, leader=True, safe=False)

    async def update_consumer(
        self,
        channel: str,
        name: str,
        *,
        ack_timeout: float | None = None,
        max_attempts: int | None = None,
        dead_letter: str | None = None,
        drop_dead: bool = False,
        max_in_flight: int | None = None,
        order: Order | None = None,
        order_header: str = "",
        filter: str | None = None,
        settle_skipped: bool = False,
    ) -> ConsumerState:
        """Changes a consumer: what is None stays as it is, an empty filter removes it."""
        request = consumers.UpdateConsumerRequest(
            channel=channel,
            name=name,
            ack_timeout_ms=None if ack_timeout is None else to_ms(ack_timeout, 1),
            max_attempts=max_attempts,
            dead_letter=dead_letter,
            drop_dead=drop_dead,
            max_in_flight=max_in_flight,
            order=None if order is None else order.value,  # type: ignore[arg-type]
            order_header=order_header,
            filter=filter,
            settle_skipped=settle_skipped,
        )
        response: consumers.UpdateConsumerResponse = await self._pool.call(
            lambda link: link.consumers.UpdateConsumer, request, leader=True, safe=False
        )
        return ConsumerState._of(response.consumer)

    async def dead_letters(self, channel: str, consumer: str, *, filter: str = "", limit: int = 0) -> list[DeadLetter]:
        """The messages that a consumer gave up, at most `limit` of them unless it is 0, oldest first."""
        found: list[DeadLetter] = []
        selection = consumers.DeadLetterSelection(channel=channel, consumer=consumer, filter=filter)
        while True:
            selection.limit = max(limit - len(found), 0)
            request = consumers.ListDeadLettersRequest(selection=selection)
            page: consumers.ListDeadLettersResponse = await self._pool.call(
                lambda link: link.consumers.ListDeadLetters, request
            )
            found.extend(DeadLetter._of(letter) for letter in page.letters)
            if page.done or (limit and len(found) >= limit):
                return found
            selection.from_seq = page.next_seq

    async def redrive(self, channel: str, consumer: str, *, filter: str = "", to: str = "") -> Redriven:
        """Sends dead letters to another channel, or back to the one in which they died. A letter is moved once, whatever
        becomes of an answer; where the outcome of the call is unknown it may be made again."""
        selection = consumers.DeadLetterSelection(channel=channel, consumer=consumer, filter=filter)
        moved = unsure = refused = 0
        refusals: list[tuple[int, LiminalError]] = []
        while True:
            request = consumers.RedriveRequest(selection=selection, to=to)
            step: consumers.RedriveResponse = await self._pool.call(
                lambda link: link.consumers.Redrive, request, leader=True, safe=False, within=REDRIVE
            )
            moved, unsure, refused = moved + step.moved, unsure + step.unsure, refused + step.refused
            refusals += [(refusal.seq, of_proto(refusal.error)) for refusal in step.refusals]
            stopped = of_proto(step.stopped) if step.HasField("stopped") else None
            if step.done or stopped is not None:
                return Redriven(moved, unsure, refused, tuple(refusals[:REFUSALS]), stopped)
            selection.from_seq = step.next_seq

    async def claim_namespaces(self) -> list[ClaimNamespace]:
        """All namespaces of claims, by name."""
        response: claims.ListClaimNamespacesResponse = await self._pool.call(
            lambda link: link.claims.ListClaimNamespaces, claims.ListClaimNamespacesRequest()
        )
        return [ClaimNamespace._of(one) for one in response.namespaces]

    async def can_i(self, action: str, scope: str) -> bool:
        """Whether this client's token may do something to `channel:NAME`, `claim:NAME` or `cluster`."""
        request = security.CanIRequest(action=action, scope=scope)
        response: security.CanIResponse = await self._pool.call(lambda link: link.security.CanI, request)
        return response.allowed

    async def cluster_status(self) -> ClusterStatus:
        """The nodes, and which of them leads."""
        response: admin.ClusterStatusResponse = await self._pool.call(
            lambda link: link.admin.ClusterStatus, admin.ClusterStatusRequest()
        )
        nodes = tuple(
            NodeStatus(
                node.name,
                admin.NodeRole.Name(node.role).removeprefix("NODE_ROLE_").lower(),
                admin.NodeHealth.Name(node.health).removeprefix("NODE_HEALTH_").lower(),
                node.client_address,
                node.applied,
                node.failure,
            )
            for node in response.nodes
        )
        return ClusterStatus(response.cluster_id, response.leader or None, response.epoch, nodes)
