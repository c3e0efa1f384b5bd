"""An ext_proc service that lets everything pass, written the plain way: what any `grpc.aio` service costs at least.

It runs as a script: `python noop.py SOCKET`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import grpc.aio

from extproc._pb import ext_proc_pb2 as pb
from extproc.wire import PROCESSOR_SERVICE

UPSTREAM = "api.githubcopilot.com"
_MAX_MESSAGE_BYTES = 4 << 20


async def process(
    requests: AsyncIterator[pb.ProcessingRequest], _context: object
) -> AsyncIterator[pb.ProcessingResponse]:
    """Answer each message with one that changes nothing."""
    async for request in requests:
        yield _reply(request)


def _reply(request: pb.ProcessingRequest) -> pb.ProcessingResponse:
    response = pb.ProcessingResponse()
    match request.WhichOneof("request"):
        case "request_headers":
            # The one thing it must say: Envoy's configuration routes only what names its upstream.
            common = response.request_headers.response
            common.clear_route_cache = True
            option = common.header_mutation.set_headers.add()
            option.header.key = "x-gateway-upstream"
            option.header.raw_value = _upstream(request.request_headers)
            option.append_action = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        case "response_headers":
            response.response_headers.SetInParent()
        case "request_body":
            _echo(request.request_body, response.request_body)
        case "response_body":
            _echo(request.response_body, response.response_body)
        case "request_trailers":
            response.request_trailers.SetInParent()
        case "response_trailers":
            response.response_trailers.SetInParent()
        case other:
            raise ValueError(f"Envoy sent {other}")
    return response


def _upstream(headers: pb.HttpHeaders) -> bytes:
    connect = any(one.key == ":method" and one.raw_value == b"CONNECT" for one in headers.headers.headers)
    return b"intercepted" if connect else UPSTREAM.encode()


def _echo(body: pb.HttpBody, reply: pb.BodyResponse) -> None:
    piece = reply.response.body_mutation.streamed_response
    piece.body = body.body
    piece.end_of_stream = body.end_of_stream


async def serve(socket: str) -> None:
    """Serve on a unix socket until killed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)])
    handler = grpc.stream_stream_rpc_method_handler(
        process,
        request_deserializer=pb.ProcessingRequest.FromString,
        response_serializer=pb.ProcessingResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PROCESSOR_SERVICE, {"Process": handler}),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
