from wit_world import exports
from wit_world.imports.types import (IncomingRequest, ResponseOutparam, OutgoingResponse, Fields, OutgoingBody)
from componentize_py_types import Ok

class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam):
        path = request.path_with_query()
        response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        stream = body.write()
        stream.blocking_write_and_flush(f"Hello from Python at {path}\n".encode())
        stream.__exit__(None, None, None)
        OutgoingBody.finish(body, None)
