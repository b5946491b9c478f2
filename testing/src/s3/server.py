"""A server of Amazon S3's protocol on loopback (moto's), with one bucket and one user, whose key
and every request's signature it checks. It says on its first line where it is, and then does what
the lines of its standard input ask for behind the back of whoever else uses it; it ends with them.
"""

import json
import logging
import os
import sys

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "inf"
# So many names on a page of a list, where Amazon has 1,000: lists of a few have several pages.
os.environ["MOTO_S3_DEFAULT_MAX_KEYS"] = "10"
logging.disable(logging.CRITICAL)

import boto3  # noqa: E402
import requests  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

BUCKET = "backups"
ALL = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}


def client(url, service, key):
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )


def user(iam, name, statement):
    iam.create_user(UserName=name)
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
    return iam.create_access_key(UserName=name)["AccessKey"]


def objects(s3):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return [(it["Key"], it["Size"]) for page in pages for it in page.get("Contents", [])]


def act(s3, do):
    """Does what one line asks for."""
    match do["do"]:
        case "put":
            with open(do["file"], "rb") as content:
                s3.put_object(Bucket=BUCKET, Key=do["key"], Body=content.read())
        case "get":
            found = s3.get_object(Bucket=BUCKET, Key=do["key"])["Body"]
            with open(do["file"], "wb") as file:
                file.write(found.read())
        case "delete":
            s3.delete_object(Bucket=BUCKET, Key=do["key"])
        case "objects":
            return objects(s3)
        case "uploads":
            found = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
            return [it["Key"] for it in found]
        case other:
            raise ValueError(other)
    return None


def main():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    iam = client(url, "iam", {"AccessKeyId": "x", "SecretAccessKey": "x"})
    key = user(iam, "backup", ALL)
    reader = user(iam, "reader", {**ALL, "Action": ["s3:List*", "s3:Get*"]})
    s3 = client(url, "s3", key)
    location = {"LocationConstraint": "eu-central-1"}
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
    requests.post(f"{url}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
    keys = [it[field] for it in (key, reader) for field in ("AccessKeyId", "SecretAccessKey")]
    print(json.dumps({"port": port, "bucket": BUCKET, "keys": keys}), flush=True)
    for line in sys.stdin:
        try:
            answer = {"done": act(s3, json.loads(line))}
        except Exception as error:  # whoever asked is told
            answer = {"failed": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    # What the server logs of each request is of no interest.
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stdout = os.fdopen(answers, "w")
    main()
    os._exit(0)
