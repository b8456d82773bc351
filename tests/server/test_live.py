"""The live protocol over real sockets: what is painted, what is refused, and what a rude client can do (nothing)."""

from __future__ import annotations

import asyncio
import io
import json
import random
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any, cast

import msgpack
import pytest
from PIL import Image
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import fewstep
from fewstep.errors import FewstepWarning
from fewstep.models.model import Model
from fewstep.server import live, protocol
from fewstep.server.engine import Engine
from fewstep.server.parking import Parking
from fewstep.server.protocol import Picture, PictureKind
from fewstep.server.scheduler import Lane
from fewstep.server.session import Session
from live_client import Client, close, image_of, picture_file, talking
from serving import Server, serving

FRAME = b"FSL1\0\0\0\0"


@pytest.fixture(scope="module", autouse=True)
def stats_come_soon() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "STATS_EVERY", 0.1)
        yield


def iter_until(client: Client, id_: int) -> list[Any]:
    """Everything that comes before the picture `id_`."""
    seen: list[Any] = []
    client.until(lambda it: seen.append(it) or (isinstance(it, Picture) and it.id == id_))  # type: ignore[func-returns-value]
    return seen[:-1]


def quiet(client: Client, seconds: float) -> list[Any]:
    """Everything that comes within so many seconds."""
    seen, end = [], time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with suppress(TimeoutError):
            seen.append(client.next(timeout=left))
    return seen


def test_a_change_is_a_picture(server: Server, student: Model) -> None:
    with talking(server) as client:
        assert client.hello["model"] == student.name
        assert not client.hello["resumed"]
        client.set(1, prompt="a cat", seed=3, steps=2)
        first = client.picture(1)
        client.set(2, prompt="a dog")
        second = client.picture(2)
    assert close(image_of(first), fewstep.text2image(student, "a cat", seed=3, steps=2))
    assert close(image_of(second), fewstep.text2image(student, "a dog", seed=3, steps=2))
    assert (first.step, first.num_steps, first.seed, first.format) == (2, 2, 3, "png")
    assert 0 < first.worked_ms <= first.total_ms


def test_a_frame_is_painted_over_until_it_is_forgotten(server: Server, student: Model) -> None:
    source, file = Image.new("RGB", (128, 128), "red"), io.BytesIO()
    source.save(file, "PNG")
    with talking(server) as client:
        client.set(1, prompt="a cat", seed=3, strength=0.5)
        client.picture(1)
        client.socket.send(FRAME + (7).to_bytes(4, "little") + file.getvalue())
        over = client.picture(7)
        client.socket.send(json.dumps({"type": "set", "id": 8, "image": None}))
        plain = client.picture(8)
    assert close(image_of(over), fewstep.image2image(student, "a cat", source, seed=3, strength=0.5))
    assert close(image_of(plain), fewstep.text2image(student, "a cat", seed=3))


def test_a_mask_says_where(server: Server, student: Model) -> None:
    def bytes_of(image: Image.Image) -> bytes:
        image.save(file := io.BytesIO(), "PNG")
        return file.getvalue()

    source, mask = Image.new("RGB", (128, 128), "red"), Image.new("L", (128, 128))
    mask.paste(255, (0, 0, 64, 128))
    with talking(server) as client:
        client.set(1, prompt="a cat", seed=3, strength=1)
        client.socket.send(FRAME + (2).to_bytes(4, "little") + bytes_of(source))
        client.socket.send(b"FSL1\1\0\0\0" + (3).to_bytes(4, "little") + bytes_of(mask))
        inside = client.picture(3)
        client.socket.send(json.dumps({"type": "set", "id": 4, "mask": None}))
        everywhere = client.picture(4)
    assert close(image_of(inside), fewstep.image2image(student, "a cat", source, mask=mask, seed=3))
    assert close(image_of(everywhere), fewstep.image2image(student, "a cat", source, strength=1, seed=3))


def test_msgpack_says_the_same(server: Server, student: Model) -> None:
    with connect(server.live, subprotocols=[protocol.MSGPACK]) as socket:
        assert msgpack.unpackb(socket.recv())["type"] == "hello"
        wish = {"type": "set", "id": 5, "parameters": {"prompt": "a cat", "seed": 3, "format": "png"}}
        socket.send(msgpack.packb(wish))
        told = msgpack.unpackb(socket.recv())
        while told["type"] != "picture":
            told = msgpack.unpackb(socket.recv())
    assert told["id"] == 5
    assert close(Image.open(io.BytesIO(told["data"])), fewstep.text2image(student, "a cat", seed=3))


def test_previews_show_the_way(server: Server) -> None:
    with talking(server) as client:
        client.set(1, prompt="a cat", steps=4, previews=True)
        preview = client.picture(1, PictureKind.PREVIEW)
        assert 1 <= preview.step < 4
        assert client.picture(1).step == 4


def test_a_picture_is_refined_when_the_hand_rests(server: Server, student: Model) -> None:
    with talking(server) as client:
        client.set(1, prompt="a cat", seed=2, steps=1, rest_steps=4)
        assert client.picture(1).num_steps == 1
        refined = client.picture(1, PictureKind.REFINED)
    assert refined.num_steps == 4
    assert close(image_of(refined), fewstep.text2image(student, "a cat", seed=2, steps=4))


def test_typing_fast_paints_the_last_word_and_counts_the_others(server: Server, student: Model) -> None:
    with talking(server) as client:
        for number in range(60):
            client.set(number, prompt=f"word {number}", steps=8)
        last = client.picture(59)
        client.set(60)
        stats = client.until(
            lambda it: isinstance(it, dict) and it["type"] == "stats" and it["painted"] + it["superseded"] >= 60
        )
    assert close(image_of(last), fewstep.text2image(student, "word 59", seed=0, steps=8))
    assert stats["superseded"] > 30


def test_a_camera_that_shows_the_same_is_not_painted_again(server: Server) -> None:
    def frame(client: Client, id_: int, colour: str) -> None:
        file = io.BytesIO()
        Image.new("RGB", (64, 64), colour).save(file, "PNG")
        client.socket.send(FRAME + id_.to_bytes(4, "little") + file.getvalue())

    with talking(server) as client:
        client.set(1, prompt="x", skip_similar=0.05)
        client.picture(1)
        frame(client, 2, "#808080")
        client.picture(2)
        frame(client, 3, "#828282")
        frame(client, 4, "#ffffff")
        before = iter_until(client, 4)
        assert not any(isinstance(it, Picture) for it in before)
        told = [it["skipped"] for it in before if isinstance(it, dict) and it["type"] == "stats"]
        assert 1 in told or client.message("stats")["skipped"] == 1


def test_a_budget_takes_steps_then_size_away_and_says_so_once(server: Server) -> None:
    with talking(server) as client:
        client.set(1, prompt="x", steps=8)
        assert image_of(client.picture(1)).size == (128, 128)
        client.set(2, budget_ms=1)
        advice = client.message("advice")
        assert advice["messages"] == ["1 of 8 steps, 64 x 64 instead of 128 x 128, to stay within 1 ms"]
        small = client.picture(2)
        assert (small.num_steps, image_of(small).size) == (1, (64, 64))
        client.set(3, prompt="y")
        client.picture(3)
        client.set(4, budget_ms=60_000)
        assert not any(isinstance(it, dict) and it["type"] == "advice" for it in iter_until(client, 4))
        client.set(5, budget_ms=None)
        whole = client.picture(5)
        assert (whole.num_steps, image_of(whole).size) == (8, (128, 128))


def test_a_lost_connection_comes_back_to_where_it_was(server: Server) -> None:
    with talking(server) as client:
        client.set(1, prompt="a cat", seed=3)
        before, token = client.picture(1), client.hello["session"]
    time.sleep(0.1)
    with talking(server, f"?resume={token}") as client:
        assert client.hello["resumed"]
        assert client.hello["parameters"]["prompt"] == "a cat"
        assert client.picture(1).data == before.data
        client.set(2, seed=4)
        assert client.picture(2).seed == 4
    with talking(server, "?resume=somebody-else") as stranger:
        assert not stranger.hello["resumed"]
        assert stranger.hello["parameters"]["prompt"] == ""


def test_a_connection_that_is_dead_unnoticed_gives_way(student: Model) -> None:
    """A phone has left its network: the server still holds the old connection, in the only place that there is."""
    with serving(student, max_clients=1) as server, talking(server) as old:
        old.set(1, prompt="a cat", seed=3)
        before, token = old.picture(1), old.hello["session"]
        with talking(server, f"?resume={token}") as new:
            assert new.hello["resumed"]
            assert new.picture(1).data == before.data
            new.set(2, seed=4)
            assert new.picture(2).seed == 4
        with pytest.raises(ConnectionClosed) as closed:
            old.until(lambda it: False)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4001


def test_what_was_asked_for_before_the_break_is_painted_after_it(server: Server, student: Model) -> None:
    with talking(server) as client:
        token = client.hello["session"]
        client.set(7, prompt="a cat", seed=3, steps=50)
        time.sleep(0.05)
    with talking(server, f"?resume={token}") as client:
        with pytest.warns(FewstepWarning):  # so many steps are for teachers
            alone = fewstep.text2image(student, "a cat", seed=3, steps=50)
        assert close(image_of(client.picture(7)), alone)
        client.set(8, prompt="a dog", steps=50)
        time.sleep(0.05)
        client.socket.send('{"type": "cancel"}')
        client.socket.send('{"type": "ping", "id": 5}')
        client.message("pong")
    with talking(server, f"?resume={token}") as client:
        assert [it for it in quiet(client, 0.5) if isinstance(it, Picture) and it.id == 8] == []


def test_who_comes_back_learns_what_had_arrived(server: Server) -> None:
    """A connection that is torn may swallow its last messages: the one who sent them can tell, and send them again."""
    for _ in range(5):
        with talking(server, max_queue=1) as client:
            token = client.hello["session"]
            assert client.hello["newest"] is None
            for id_ in range(1, 40):
                client.set(id_, prompt="a red car", seed=id_, steps=1, previews=True)
            client.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.socket.shutdown(socket.SHUT_RDWR)
            with talking(server, f"?resume={token}") as again:
                newest = again.hello["newest"]
                if newest is not None:
                    assert again.picture(newest).seed == newest
                if newest != 39:
                    again.set(39, seed=39)
                    assert again.picture(39).seed == 39


def test_who_comes_back_to_a_full_house_is_told_and_not_forgotten(student: Model) -> None:
    with serving(student, max_clients=1) as server:
        with talking(server) as client:
            client.set(1, prompt="a cat")
            client.picture(1)
            token = client.hello["session"]
        with talking(server), connect(f"{server.live}?resume={token}") as late:
            assert json.loads(late.recv())["reason"] == "busy"
        with talking(server, f"?resume={token}") as client:
            assert client.hello["parameters"]["prompt"] == "a cat"


def test_an_address_has_its_share_and_gets_it_back(student: Model) -> None:
    """Loopback has no limit of its own: a proxy may stand there, and says on whose behalf."""
    far = {"additional_headers": {"x-forwarded-for": "203.0.113.5"}}
    with serving(student) as server, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(talking(server))
        for _ in range(2):
            with ExitStack() as visit:
                for _ in range(16):
                    visit.enter_context(talking(server, **far))
                with connect(server.live, **far) as late:
                    assert "16 sessions from one address" in json.loads(late.recv())["message"]
            time.sleep(0.2)


def test_realtime_connections_count_as_well(student: Model) -> None:
    """Each has a place in the line of its own; nobody takes them all by another door."""
    far = {"additional_headers": {"x-forwarded-for": "203.0.113.5"}}
    with serving(student) as server, ExitStack() as stack:
        for number in range(16):
            door = server.live if number % 2 else server.live.replace("/v1/live", "/fal-ai/lcm/realtime")
            stack.enter_context(connect(door, **far))
        time.sleep(0.2)
        with connect(f"ws://{server.address}/fal-ai/lcm/realtime", **far) as late:
            assert json.loads(late.recv(timeout=10))["error"] == "BUSY"
        with talking(server):
            pass


def test_parked_pictures_have_a_limit_in_bytes() -> None:
    async def scene() -> None:
        sessions = [Session(cast(Engine, None), cast(Lane, None)) for _ in range(3)]
        for session in sessions:
            session.pictures.image, session.pictures.mask = Image.new("RGB", (100, 100)), Image.new("L", (100, 100))
        assert sessions[0].pictures.num_bytes == 40_000
        parking = Parking(most_bytes=100_000)
        for session in sessions:
            parking.put(session)
        assert [parking.claim(session.token) for session in sessions] == [None, *sessions[1:]]

    asyncio.run(scene())


def test_parked_sessions_go_when_their_time_is_over_or_there_are_too_many() -> None:
    async def scene() -> None:
        engine = cast(Engine, None)
        sessions = [Session(engine, cast(Lane, None)) for _ in range(5)]
        parking = Parking(seconds=0.3, most=3)
        for session in sessions:
            parking.put(session)
        assert parking.claim(sessions[0].token) is None
        assert parking.claim(sessions[4].token) is sessions[4]
        assert len(parking) == 2
        await asyncio.sleep(0.6)
        assert len(parking) == 0

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "Input should be a valid dictionary"),
        ('{"type": "dance"}', "does not match any of the expected tags"),
        ('{"type": "set", "parameters": {"steps": 99}}', "steps: Input should be less than or equal to 50"),
        ('{"type": "set", "parameters": {"colour": 1}}', "colour: Extra inputs are not permitted"),
        ('{"type": "set", "parameters": {"width": 13}}', "multiple of"),
        ('{"type": "set", "parameters": {"strength": NaN}}', "strength: Input should be a finite number"),
        ('{"type": "set", "id": -1}', "id: Input should be greater"),
        ("[" * 50_000, ""),
        (b"", "a binary message is a frame"),
        (b"FSL1\x07\0\0\0\0\0\0\0x", "unknown kind of frame"),
        (FRAME + b"\0\0\0\0no picture", "the frame is not a picture"),
    ],
)
def test_a_mistake_is_said_and_the_session_goes_on(server: Server, message: str | bytes, reason: str) -> None:
    with talking(server) as client:
        client.set(1, prompt="x")
        client.picture(1)
        client.socket.send(message)
        assert reason in client.message("error")["message"]
        client.set(2, prompt="y", width=128, steps=4)
        client.picture(2)


def rude_messages(choose: random.Random, good: Sequence[bytes], count: int) -> Iterator[str | bytes]:
    """Damaged, truncated, nested, huge; some are right, and in the wrong order."""
    huge = [b"[" * 100_000, b"\x93" * 100_000, b'{"type": "' + b"x" * 900_000 + b'"}', FRAME + bytes(900_000)]
    for number in range(count):
        data = bytearray(huge[number // 100 % len(huge)] if number % 100 == 99 else choose.choice(good))
        for _ in range(choose.randrange(6)):
            data[choose.randrange(len(data))] = choose.randrange(256)
        cut = bytes(data[: choose.randrange(1, len(data) + 1)]) if choose.random() < 0.7 else bytes(data)
        yield cut if choose.random() < 0.5 else cut.decode("latin-1")


RIGHT = (  # in no sensible order: a mask without a picture, a cancel of nothing, ids that fall
    b'{"type": "set", "id": 9, "parameters": {"prompt": "x", "steps": 1, "budget_ms": 5, "rest_steps": 4}}',
    b'{"type": "set", "id": 3, "mask": null, "image": null}',
    b'{"type": "cancel"}',
    b'{"type": "ping", "id": 4294967295}',
    FRAME + b"\1\0\0\0" + bytes(range(200)),
    b"FSL1\1\0\0\0\2\0\0\0" + picture_file("white"),
    FRAME + b"\0\0\0\0" + picture_file("red"),
)


@pytest.mark.parametrize("door", ["json", "msgpack", "fal"])
def test_thousands_of_rude_messages_hurt_nobody(server: Server, caplog: pytest.LogCaptureFixture, door: str) -> None:
    """Bytes of all kinds, over several connections; then a polite client gets its picture, and nothing is left."""
    choose = random.Random(door)
    packed = [msgpack.packb(json.loads(each)) for each in RIGHT if each.startswith(b"{")]
    packed.append(msgpack.packb({"type": "frame", "id": 2, "data": picture_file("blue")}))
    asks = [msgpack.packb({"prompt": "x", "num_inference_steps": 1, "image_bytes": b"no"}), b'{"prompt": "y"}']
    url, options, good = {
        "json": (server.live, {}, RIGHT),
        "msgpack": (server.live, {"subprotocols": [protocol.MSGPACK]}, packed),
        "fal": (f"ws://{server.address}/fal-ai/lcm/realtime?max_buffering=4", {}, asks),
    }[door]
    for _ in range(3):
        with connect(url, close_timeout=0.5, max_size=None, **options) as socket:
            for message in rude_messages(choose, good, 500):
                socket.send(message)
            with suppress(TimeoutError):  # it still talks to us
                while socket.recv(timeout=0.1):
                    pass
    with talking(server) as client:
        client.set(1, prompt="still here")
        assert client.picture(1)
    assert server.engine.worker.alive
    assert "failed" not in caplog.text
    until = time.monotonic() + 10
    while server.engine.scheduler.num_lanes and time.monotonic() < until:
        time.sleep(0.05)
    assert (server.engine.scheduler.num_lanes, server.engine.scheduler.num_waiting) == (0, 0)


def test_a_message_beyond_the_limit_ends_that_connection_alone(server: Server) -> None:
    with talking(server) as other:
        with talking(server) as client:
            with suppress(ConnectionClosed):  # the server may close before it has all of it
                client.socket.send(bytes(2 * 2**20))
            with pytest.raises(ConnectionClosed) as closed:
                client.until(lambda it: False)
        if closed.value.rcvd is not None:  # a reset may overtake the server's last word
            assert closed.value.rcvd.code == 1009
        other.set(1, prompt="x")
        assert other.picture(1)


@pytest.mark.slow
def test_a_hundred_sessions_never_mix(server: Server, student: Model) -> None:
    """Every picture of every session, among a hundred that change their minds, is the one made alone."""
    choose = random.Random(5)
    wishes = [
        {
            "prompt": f"{choose.choice(['a cat', 'a dog', 'the moon'])} {number}",
            "seed": choose.randrange(10**6),
            "steps": choose.choice([1, 2, 4]),
            "guidance_scale": choose.choice([3.0, 5.0, 8.0]),
            "width": choose.choice([32, 64]),
            "height": 64,
        }
        for number in range(40)
    ]
    shown: list[tuple[int, Picture]] = []

    async def session(number: int) -> None:
        chosen = random.Random(number)
        async with connect_async(server.live, subprotocols=[protocol.JSON], open_timeout=60) as socket:
            for id_ in range(1, 3):
                if chosen.random() < 0.3:  # a wish that is given up for the next one
                    await socket.send(json.dumps({"type": "set", "id": 99, "parameters": chosen.choice(wishes)}))
                if chosen.random() < 0.1:
                    await socket.send('{"type": "cancel"}')
                which = chosen.randrange(len(wishes))
                await socket.send(
                    json.dumps({"type": "set", "id": id_, "parameters": {**wishes[which], "format": "png"}})
                )
                while True:
                    message = await socket.recv()
                    if isinstance(message, bytes) and (picture := Picture.from_binary(message)).id == id_:
                        break
                shown.append((which, picture))

    async def everybody() -> None:
        await asyncio.wait_for(asyncio.gather(*(session(number) for number in range(100))), 120)

    asyncio.run(everybody())
    alone = [fewstep.text2image(student, **wish) for wish in wishes]  # type: ignore[arg-type]
    assert len(shown) == 200
    assert [which for which, picture in shown if not close(image_of(picture), alone[which])] == []


@pytest.mark.slow
def test_who_does_not_read_delays_nobody(server: Server) -> None:
    """One reader's buffers are full to the brim, so that the server cannot send to it; another one is served."""

    def painted() -> float:
        return server.engine.metrics.registry.get_sample_value("fewstep_pictures_total") or 0.0

    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = server.address.partition(":")
    small.connect((host, int(port)))
    large = {"width": 512, "height": 512, "steps": 1, "format": "png", "prompt": "x"}
    with talking(server, sock=small, max_queue=1, close_timeout=0.5) as deaf, talking(server) as client:
        for number in range(1, 11):
            before = painted()
            deaf.set(number, seed=number, **large)
            while painted() == before:
                time.sleep(0.01)
        started = time.monotonic()
        for number in range(5):
            client.set(number, prompt=f"mine {number}", steps=1)
            client.picture(number)
        assert time.monotonic() - started < 10
        assert deaf.picture(10).seed == 10  # it reads again: the newest is there, and others never were sent
        deaf.set(11, seed=11, **large)  # something new to tell: the statistics may all have come before the picture
        assert deaf.until(lambda it: isinstance(it, dict) and it["type"] == "stats" and it["dropped"] > 0)


def test_too_many_messages_are_ignored_and_told(server: Server) -> None:
    with talking(server, close_timeout=0.5) as client:
        for number in range(2000):
            client.socket.send('{"type": "ping"}')
            if number % 100 == 0:
                time.sleep(0.001)
        assert client.until(lambda it: isinstance(it, dict) and it.get("reason") == "too_fast")["retry_after"] == 1.0


def test_a_full_house_says_when_to_come_back(student: Model) -> None:
    with serving(student, max_clients=1) as server, talking(server), connect(server.live) as socket:
        told = json.loads(socket.recv())
        assert told["reason"] == "busy"
        assert told["retry_after"] > 0
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


def test_the_end_closes_with_a_reason(student: Model) -> None:
    with ExitStack() as stack:
        with serving(student) as server:
            socket = stack.enter_context(connect(server.live))
            json.loads(socket.recv())
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1001, 1012)
