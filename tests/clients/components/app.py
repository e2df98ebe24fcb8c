"""A component that answers HTTP, for componentize-py: see main.mjs for what is asked of it."""

import json

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import monotonic_clock
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields, IncomingBody, IncomingRequest, Method_Post, OutgoingBody, OutgoingResponse, ResponseOutparam,
)


def parts(request):
    """The body, piece by piece as it comes."""
    body = request.consume()
    with body.stream() as stream:
        while True:
            try:
                yield stream.blocking_read(4096)
            except Err as error:
                if not isinstance(error.value, StreamError_Closed):
                    raise
                break
    IncomingBody.finish(body)


def answers(request):
    """The answer's type, and its pieces."""
    path = request.path_with_query()
    if path == "/echo":
        return "text/plain", (part.upper() for part in parts(request))
    if path == "/count":
        return "text/plain", (str(sum(map(len, parts(request)))).encode() for _ in range(1))
    if path == "/stream":
        return "text/plain", slowly(3)
    if isinstance(request.method(), Method_Post):
        got = json.loads(b"".join(parts(request)))
        return "application/json", [json.dumps({"got": got}).encode()]
    return "text/plain", [f"Hello from Python at {path}\n".encode()]


def slowly(count):
    for index in range(count):
        yield f"part {index}\n".encode()
        monotonic_clock.subscribe_duration(300_000_000).block()


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam):
        content_type, pieces = answers(request)
        response = OutgoingResponse(Fields.from_list([("content-type", content_type.encode())]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            for piece in pieces:
                # What is written at once is bounded by the interface.
                for at in range(0, len(piece), 4096):
                    stream.blocking_write_and_flush(piece[at:at + 4096])
        OutgoingBody.finish(body, None)
