"""grpcio's own reflection client, and a call made from nothing but what it learned. Says as JSON what it saw."""

import json
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

asked = json.loads(sys.argv[1])
with grpc.insecure_channel(asked["door"], options=[("grpc.enable_http_proxy", 0)]) as channel:
    database = ProtoReflectionDescriptorDatabase(channel)
    services = list(database.get_services())
    service = DescriptorPool(database).FindServiceByName(asked["service"])
    method = service.FindMethodByName(asked["method"])
    call = channel.unary_unary(
        f"/{service.full_name}/{method.name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    answer = call(GetMessageClass(method.input_type)(text=asked["text"]), metadata=asked["fields"], timeout=30)
    fields = [field.name for field in method.input_type.fields]
    print(json.dumps({"services": services, "fields": fields, "answer": answer.text}))
