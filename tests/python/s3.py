"""An S3 store for tests that is none of ours: moto's, with its own judgement of credentials. It prints a line of JSON with its
address and credentials that hold, and runs until its standard input ends."""

import json
import os
import sys

# Users and buckets are made before anybody is asked for credentials: so many calls.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "4"

import boto3  # noqa: E402
from moto.iam import access_control  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

# moto judges signatures by a query that was decoded; S3 by the query as it came.
judged = access_control.IAMRequestBase._create_aws_request


def as_it_came(request):
    path, mark, query = request._path.partition("?")
    request._path = path + mark + query.replace("/", "%2F")
    return judged(request)


access_control.IAMRequestBase._create_aws_request = as_it_came

asked = json.loads(sys.argv[1])
server = ThreadedMotoServer(ip_address="127.0.0.1", port=asked.get("port", 0), verbose=False)
server.start()
host, port = server.get_host_and_port()
address = f"http://127.0.0.1:{port}"
anybody = {"endpoint_url": address, "region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}
iam = boto3.client("iam", **anybody)
iam.create_user(UserName="archive")
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="archive", PolicyName="all", PolicyDocument=json.dumps(policy))
key = iam.create_access_key(UserName="archive")["AccessKey"]
boto3.client("s3", **anybody).create_bucket(Bucket="evidence")
credentials = {"id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
print(json.dumps({"address": address, "port": port, **credentials}), flush=True)
sys.stdin.read()
server.stop()
