#!/usr/bin/env python3
"""An ordinary gRPC client in Python: grpcio, stubs that grpcio-tools makes of the service's .proto, nothing of ours.
Makes one of the calls below and prints as JSON what it saw; bytes are in hexadecimal.

    client.py '{"call": "unary", "door": "127.0.0.1:8080", "protos": "tests/protos", "fields": [["x-a", "1"]]}'
"""

import json, queue, sys, tempfile
import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

PATIENCE = 60  # seconds: a call that hangs is a failure, not a test that never ends


def unary(echo, said, fields):
    answer, call = echo.Unary.with_call(said(text="Xin chào", bytes=bytes(range(256)), number=2**64 - 1),
                                        metadata=fields, timeout=PATIENCE)
    return seen(call, [answer])


def server_stream(echo, said, fields):
    call = echo.ServerStream(said(text="counted", number=5), metadata=fields, timeout=PATIENCE)
    return seen(call, list(call))


def client_stream(echo, said, fields):
    parts = (said(text=text, number=number) for number, text in enumerate("abc"))
    answer, call = echo.ClientStream.with_call(parts, metadata=fields, timeout=PATIENCE)
    return seen(call, [answer])


def both(echo, said, fields):
    """Says the next thing only after the last was answered."""
    says, answers = queue.SimpleQueue(), []
    call = echo.Both(iter(says.get, None), metadata=fields, timeout=PATIENCE)
    for number in range(3):
        says.put(said(number=number))
        answers.append(next(call))
    says.put(None)
    return seen(call, answers + list(call))


def speaks_first(echo, said, fields):
    """Says nothing before it heard something."""
    says = queue.SimpleQueue()
    call = echo.SpeaksFirst(iter(says.get, None), metadata=fields, timeout=PATIENCE)
    answers = [next(call)]
    says.put(said(text="second"))
    answers.append(next(call))
    says.put(None)
    return seen(call, answers + list(call))


def fail(echo, said, fields):
    return failed(echo.Fail, said(number=9, text="chưa đủ: 100 %", bytes=b"\0details\xff"), fields, PATIENCE)


def deadline(echo, said, fields):
    return failed(echo.Hang, said(), fields, 2)


def cancel(echo, said, fields):
    """Hangs up when it is told to by a line of input."""
    call = echo.Hang.future(said(), metadata=fields, timeout=PATIENCE)
    sys.stdin.readline()
    call.cancel()
    return {"code": call.code().name}


def refused(echo, said, fields):
    """The refusal as the library for rich errors reads it, which insists that status and details say the same."""
    try:
        echo.Unary(said(), metadata=fields, timeout=PATIENCE)
    except grpc.RpcError as error:
        status, found = rpc_status.from_call(error), seen(error, [])
        reason, text = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
        assert status.details[0].Unpack(reason) and status.details[1].Unpack(text)
        return {**found, "reason": reason.reason, "domain": reason.domain, "about": dict(reason.metadata),
                "locale": text.locale, "text": text.message}
    raise AssertionError("it was not refused")


def failed(method, request, fields, timeout):
    try:
        method(request, metadata=fields, timeout=timeout)
    except grpc.RpcError as error:
        return seen(error, [])
    raise AssertionError("it did not fail")


def seen(call, answers):
    return {"answers": [{"text": answer.text, "bytes": answer.bytes.hex(), "number": str(answer.number)}
                        for answer in answers],
            "metadata": readable(call.initial_metadata()), "trailers": readable(call.trailing_metadata()),
            "code": call.code().name, "details": call.details()}


def readable(metadata):
    return [[name, value.hex() if isinstance(value, bytes) else value] for name, value in metadata or ()]


CALLS = {call.__name__: call for call in (unary, server_stream, client_stream, both, speaks_first, fail, deadline,
                                          cancel, refused)}


def main(call, door, protos, fields):
    with tempfile.TemporaryDirectory() as made:
        arguments = ["protoc", f"-I{protos}", f"--python_out={made}", f"--grpc_python_out={made}", "echo/v1/echo.proto"]
        assert protoc.main(arguments) == 0, "grpcio-tools made no stubs"
        sys.path.insert(0, made)
        from echo.v1 import echo_pb2, echo_pb2_grpc
    fields = [(name, bytes.fromhex(value) if name.endswith("-bin") else value) for name, value in fields]
    with grpc.insecure_channel(door) as channel:
        grpc.channel_ready_future(channel).result(PATIENCE)
        print(json.dumps(CALLS[call](echo_pb2_grpc.EchoStub(channel), echo_pb2.Said, fields)))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
