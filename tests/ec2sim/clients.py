"""boto3 in front of a simulated EC2, without retries of its own unless a test wants them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.ec2sim.facts import REGION, ZONE, Instance


class Caller:
    """Short forms of calls to EC2."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - boto3 makes its classes as it runs
        self.client = client

    def create(self, **changes: object) -> dict[str, Any]:
        """Create a volume of 1 GiB; returns it as answered."""
        wanted = {"AvailabilityZone": ZONE, "Size": 1, "VolumeType": "gp3", **changes}
        return dict(self.client.create_volume(**wanted))

    def made(self, **changes: object) -> str:
        """Create a volume and return its id."""
        return str(self.create(**changes)["VolumeId"])

    def attach(self, volume_id: str, instance_id: str, device: str = "/dev/sdf") -> str:
        """Attach a volume; returns the state that is answered."""
        answer = self.client.attach_volume(VolumeId=volume_id, InstanceId=instance_id, Device=device)
        return str(answer["State"])

    def detach(self, volume_id: str, **changes: object) -> str:
        """Detach a volume; returns the state that is answered."""
        return str(self.client.detach_volume(VolumeId=volume_id, **changes)["State"])

    def delete(self, volume_id: str) -> None:
        self.client.delete_volume(VolumeId=volume_id)

    def tag(self, volume_id: str, **tags: str) -> None:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        self.client.create_tags(Resources=[volume_id], Tags=pairs)

    def described(self, volume_id: str) -> dict[str, Any]:
        """Describe one volume by its id."""
        return dict(self.client.describe_volumes(VolumeIds=[volume_id])["Volumes"][0])

    def found(self, **filters: str | list[str]) -> list[str]:
        """Return the ids of the volumes that match filters, whose dashes are written as `_`."""
        chosen = [
            {"Name": name.replace("_", "-"), "Values": [values] if isinstance(values, str) else values}
            for name, values in filters.items()
        ]
        return [each["VolumeId"] for each in self.client.describe_volumes(Filters=chosen)["Volumes"]]

    def states(self, volume_id: str) -> tuple[str, str]:
        """Describe the states of a volume and of its attachment, empty if there is none."""
        volume = self.described(volume_id)
        attachments = volume["Attachments"]
        return volume["State"], attachments[0]["State"] if attachments else ""


@contextmanager
def caller(
    endpoint: str, *, attempts: int = 1, instance: Instance | None = None, region: str = REGION
) -> Iterator[Caller]:
    """A client with keys of its own, or with those of an instance."""
    client = boto3.client(
        "ec2",
        endpoint_url=endpoint,
        region_name=region,
        config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}),
        aws_access_key_id=instance.access_key if instance else "AKIATEST",
        aws_secret_access_key=instance.secret_key if instance else "test",
        aws_session_token=instance.session_token if instance else None,
    )
    try:
        yield Caller(client)
    finally:
        client.close()


def error_of(error: ClientError) -> tuple[str, str, int]:
    """Return the code, the text and the HTTP status of an error."""
    answer = error.response
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    return answer["Error"]["Code"], answer["Error"]["Message"], status
