"""The rules that keep a message from being stored twice, and what needs no server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from liminal import TLS, Client, LiminalError, Message, Position, Receipt, errors
from liminal._address import authorities, authority, servers_of
from liminal._error import error_of, lost, of_proto
from liminal._pool import Token
from liminal._proto import broker_pb2 as pb
from liminal._publisher import Room
from liminal._retry import may_retry, pause, stay
from liminal._types import start_to_proto
from liminal._window import Limits, Ticket, Window


def error(code: str, *, unknown: bool = False) -> LiminalError:
    return error_of(code, "", outcome_unknown=unknown)


@pytest.mark.parametrize("code", ["OUTCOME_UNKNOWN", "STORE_FAILED", "CONNECTION_LOST", "TIMEOUT"])
def test_only_with_a_key_is_a_publish_of_unknown_outcome_tried_again(code: str) -> None:
    assert may_retry(error(code, unknown=True), safe=True)
    assert not may_retry(error(code, unknown=True), safe=False)


@pytest.mark.parametrize("code", ["NO_LEADER", "STOPPING", "OVERLOADED", "UNREACHABLE"])
def test_what_did_not_happen_is_tried_again_without_a_key(code: str) -> None:
    assert may_retry(error(code), safe=False)


@pytest.mark.parametrize("code", ["CHANNEL_NOT_FOUND", "SCHEMA_VIOLATION", "KEY_CONFLICT", "FROM_A_NEWER_SERVER"])
def test_a_refusal_is_never_tried_again(code: str) -> None:
    assert not may_retry(error(code), safe=True)


def test_what_is_deferred_is_tried_again_with_the_same_node_and_what_is_rejected_is_not() -> None:
    deferred = of_proto(pb.Error(code="QUOTA_EXCEEDED", admission=pb.ADMISSION_DEFER, retry_after_ms=250))
    assert may_retry(deferred, safe=False) and stay(deferred) and deferred.retry_after == 0.25
    rejected = of_proto(pb.Error(code="OVERLOADED", admission=pb.ADMISSION_REJECT))
    assert not may_retry(rejected, safe=True)


def test_pauses_grow_to_a_second_and_respect_the_server() -> None:
    assert [pause(failures, None, 0.0) for failures in (1, 3, 60)] == [0.02, 0.08, 1.0]
    assert pause(60, None, 1.0) == 0.5
    assert pause(1, 3.0, 0.5) == 3.0


def test_an_error_has_the_class_of_its_code_and_says_what_to_do() -> None:
    known = error("KEY_CONFLICT")
    assert isinstance(known, errors.KeyConflict) and known.help == errors.KeyConflict.NEXT_STEP
    newer = error("FROM_A_NEWER_SERVER")
    assert type(newer) is LiminalError and newer.code == "FROM_A_NEWER_SERVER"
    assert "outcome unknown" in str(error("TIMEOUT", unknown=True))


class Book:
    """A window with three messages to a batch and two batches under way."""

    def __init__(self) -> None:
        self.window = Window(Limits(messages=3, bytes=1000, under_way=2))
        self.now = 0.0

    def push(self, text: str, key: str | None = None) -> asyncio.Future[Receipt]:
        message = Message(text.encode(), key)._proto()
        outcome: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self.window.push(Ticket(message, message.ByteSize(), 1, self.now, outcome))
        return outcome

    def take(self) -> list[str] | None:
        messages = self.window.take(self.now)
        return None if messages is None else [message.payload.decode() for message in messages]


def ok(seq: int) -> pb.PublishAck:
    return pb.PublishAck(ok=pb.PublishResponse(seq=seq))


def no(code: str, *, unknown: bool = False) -> pb.PublishAck:
    return pb.PublishAck(error=pb.Error(code=code, unknown_outcome=unknown))


async def test_messages_that_come_while_batches_are_under_way_form_the_next_batch() -> None:
    book = Book()
    book.push("a")
    assert book.take() == ["a"]
    book.push("b")
    assert book.take() == ["b"]
    for text in "cdef":
        book.push(text)
    assert book.take() is None, "two batches are under way, as many as may be"
    assert book.window.acks(0, [ok(0)]) == (1, None)
    assert book.take() == ["c", "d", "e"]


async def test_acks_answer_messages_in_order_across_batches() -> None:
    book = Book()
    first = [book.push(text) for text in "abc"]
    book.take()
    last = book.push("d")
    book.take()
    assert book.window.acks(0, [ok(10), ok(11)]) == (2, None)
    assert book.window.acks(2, [no("SCHEMA_VIOLATION"), ok(12)]) == (2, None)
    assert [first[0].result().seq, first[1].result().seq, last.result().seq] == [10, 11, 12]
    assert isinstance(first[2].exception(), errors.SchemaViolation)
    assert book.window.is_empty()


async def test_acks_that_answer_nothing_end_the_stream() -> None:
    assert isinstance(Book().window.acks(0, [ok(0)])[1], errors.Internal)
    book = Book()
    book.push("a")
    book.take()
    assert isinstance(book.window.acks(1, [ok(0)])[1], errors.Internal)


async def test_after_a_lost_connection_keyed_messages_go_again_first_and_others_fail_as_unknown() -> None:
    book = Book()
    acked, keyed, plain = book.push("a", "ka"), book.push("b", "kb"), book.push("c")
    book.take()
    book.push("d", "kd")
    book.take()
    book.push("e")
    book.window.acks(0, [ok(0)])
    assert book.window.broken(lost("n1:7101")) == 1
    failure = plain.exception()
    assert isinstance(failure, errors.ConnectionLost) and failure.outcome_unknown
    assert book.take() == ["b", "d", "e"]
    book.window.acks(0, [ok(1), ok(2)])
    assert (acked.result().seq, keyed.result().seq) == (0, 1)


async def test_a_message_refused_for_the_moment_goes_again_before_later_ones() -> None:
    book = Book()
    first = book.push("a")
    book.take()
    book.push("b")
    book.take()
    book.push("c")
    assert book.window.acks(0, [no("NO_LEADER")]) == (0, None)
    assert book.take() is None, "nothing may overtake it"
    leave = book.window.acks(1, [no("NO_LEADER")])[1]
    assert isinstance(leave, errors.NoLeader)
    assert book.window.broken(leave) == 0
    assert book.take() == ["a", "b", "c"]
    book.window.acks(0, [ok(5)])
    assert first.result().seq == 5


async def test_a_plain_message_with_an_unknown_outcome_is_not_sent_twice() -> None:
    book = Book()
    plain = book.push("a")
    book.push("b", "kb")
    book.take()
    freed, leave = book.window.acks(0, [no("OUTCOME_UNKNOWN", unknown=True)] * 2)
    assert freed == 1 and leave is not None
    failure = plain.exception()
    assert isinstance(failure, LiminalError) and failure.outcome_unknown
    book.window.broken(leave)
    assert book.take() == ["b"]


async def test_what_may_have_been_stored_stays_unknown_when_its_time_is_up() -> None:
    book = Book()
    sent = book.push("a", "ka")
    book.take()
    waiting = book.push("b", "kb")
    book.window.broken(lost("n1:7101"))
    book.now = 1.0
    young = book.push("c", "kc")
    assert book.window.expire(0.5, error("UNREACHABLE")) == 2
    first, second = sent.exception(), waiting.exception()
    assert isinstance(first, LiminalError) and first.outcome_unknown
    assert isinstance(second, LiminalError) and not second.outcome_unknown
    assert not young.done()


async def test_who_waits_for_room_is_served_in_turn_and_may_give_up() -> None:
    room = Room(10)
    await room.take(6)
    large, small = asyncio.ensure_future(room.take(8)), asyncio.ensure_future(room.take(2))
    await asyncio.sleep(0)
    assert not small.done(), "it would fit, and is behind the large one"
    large.cancel()
    await asyncio.wait_for(small, 5)
    room.give(6)
    await asyncio.wait_for(room.take(8), 5)


def test_addresses_are_taken_with_and_without_a_scheme() -> None:
    assert authority("n1:7101") == (None, "n1:7101")
    assert authority("http://[::1]:7101/") == (False, "[::1]:7101")
    assert authority("https://n1:7101") == (True, "n1:7101")
    for wrong in ("n1", "https://n1", "http://n1:7101/x", "", "a b:1", "ftp://n1:1", "n1:seven", "::1:7101"):
        with pytest.raises(errors.InvalidArgument):
            authority(wrong)
    assert authorities(["a:1"], True) == (["a:1"], True)
    with pytest.raises(errors.InvalidArgument):
        authorities(["https://a:1", "b:1"], False)
    assert servers_of("a:1, b:2") == ["a:1", "b:2"]


def test_a_position_is_kept_as_its_text() -> None:
    position = Position(7, 1, 0xAB, 42)
    assert str(position) == "7.1.000000ab.42" and Position.parse(str(position)) == position
    for wrong in ("", "1.2.3", "1.2.0000000g.3", "1.2.00000000.3.4", "-1.2.00000000.3", f"{1 << 64}.1.00000000.1"):
        with pytest.raises(errors.InvalidArgument):
            Position.parse(wrong)


def test_a_place_to_start_has_its_own_form_of_each_kind() -> None:
    time = datetime(2026, 11, 29, tzinfo=timezone.utc)
    assert start_to_proto("earliest").earliest and start_to_proto(time).time_ms == int(time.timestamp() * 1000)
    position = start_to_proto(Position(7, 1, 2, 42))
    assert (position.seq, position.position.channel_id) == (42, 7)
    with pytest.raises(errors.InvalidArgument):
        start_to_proto(datetime(2026, 11, 29))


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMINAL_TOKEN", "of-the-environment")
    assert Token().metadata() == (("authorization", "Bearer of-the-environment"),)
    file = tmp_path / "token"
    file.write_text("first\n")
    token = Token(file=file)
    assert token.metadata() == (("authorization", "Bearer first"),)
    file.write_text("second\n")
    assert token.metadata() == (("authorization", "Bearer second"),)
    file.unlink()
    assert token.metadata() == (("authorization", "Bearer second"),)
    with pytest.raises(errors.InvalidArgument, match="cannot be read"):
        Token(file=file)
    with pytest.raises(errors.InvalidArgument):
        Token("two\nlines")


async def test_certificates_and_addresses_have_to_agree(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidArgument, match="http://"):
        Client("http://n1:7101", tls=TLS())
    with pytest.raises(errors.InvalidArgument, match="private key"):
        Client("https://n1:7101", tls=TLS(cert=tmp_path / "cert"))
    with pytest.raises(errors.InvalidArgument, match="cannot be read"):
        Client("https://n1:7101", tls=TLS(ca=tmp_path / "missing"))


def test_generated_files_are_those_of_the_repository() -> None:
    script = Path(__file__).parent.parent / "scripts" / "generate.py"
    checked = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, env=os.environ)
    assert checked.returncode == 0, checked.stderr
