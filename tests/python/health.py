"""grpcio's own health client: asks how the server and some services are, and watches one. Says as JSON what it saw."""

import json
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

asked = json.loads(sys.argv[1])
name = health_pb2.HealthCheckResponse.ServingStatus.Name


def checked(health, service):
    try:
        return name(health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status)
    except grpc.RpcError as error:
        return error.code().name


with grpc.insecure_channel(asked["door"], options=[("grpc.enable_http_proxy", 0)]) as channel:
    health = health_pb2_grpc.HealthStub(channel)
    watching = health.Watch(health_pb2.HealthCheckRequest(service=asked["services"][0]), timeout=30)
    watched = name(next(watching).status)
    watching.cancel()
    print(json.dumps({"checked": [checked(health, service) for service in asked["services"]], "watched": watched}))
