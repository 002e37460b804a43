"""Objects in S3, through Airflow's own hook: credentials and endpoint come from the environment."""

import json

from airflow.providers.amazon.aws.hooks.s3 import S3Hook


class Bucket:
    """One bucket. Reads can be pinned to a version, so that a run sees one state of its input."""

    def __init__(self, name):
        self.name = name
        self._s3 = S3Hook(aws_conn_id="aws_default").get_conn()

    def version(self, key):
        """Return the current version of an object; fails if it does not exist."""
        return self._s3.head_object(Bucket=self.name, Key=key).get("VersionId")

    def read(self, key, version=None):
        """Return an object's bytes."""
        pinned = {"VersionId": version} if version else {}
        return self._s3.get_object(Bucket=self.name, Key=key, **pinned)["Body"].read()

    def write(self, key, data, content_type="application/octet-stream"):
        """Write an object and return its URI."""
        self._s3.put_object(Bucket=self.name, Key=key, Body=data, ContentType=content_type)
        return f"s3://{self.name}/{key}"

    def write_json(self, key, value):
        """Write a value as JSON."""
        return self.write(key, json.dumps(value, indent=2).encode() + b"\n", "application/json")
