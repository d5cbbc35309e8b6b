"""The commands of docs/operations.md and docs/from-rexray.md for EBS volumes, on two hosts."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.follow.backend import on
from tests.follow.scene import HOSTS, IMAGE, TIMEOUT_S, Scene
from tests.lab.ebs import EbsCloud
from tests.lab.host import Host
from tests.lab.operator import Operator
from tests.lab.requirements import MULTIHOST
from tests.lab.waiting import wait_until

pytestmark = [*MULTIHOST, HOSTS, on("ebs")]

_PAGE = "docs/operations.md"


@pytest.fixture(scope="module")
def settings() -> Mapping[str, str]:
    return {"VOLPLUG_LINGER_S": "0"}


@pytest.fixture
def cloud(scene: Scene) -> EbsCloud:
    assert isinstance(scene.cloud, EbsCloud)
    return scene.cloud


@pytest.fixture
def operator(scene: Scene, cloud: EbsCloud, tmp_path: Path) -> Operator:
    """An operator on host `a`, for whom the test's volume, which holds a file, is `db`."""
    options = [f"--opt={key}={value}" for key, value in cloud.volume_options.items()]
    scene.a.docker("volume", "create", "--driver=volplug", *options, "--opt=fs=xfs", scene.volume)
    _write(scene.a, scene.volume, "first")
    names = {
        "vol-0123456789abcdef0": _id(cloud, scene.volume),
        "prod": "lab",
        "db2": _other(scene),
        "db": scene.volume,
        "tags.json": str(tmp_path / "tags.json"),
        "eu-central-1a": cloud.zone,
    }
    return Operator(scene.a.engine.run, names, tmp_path, cloud.ec2.endpoint)


def _other(scene: Scene) -> str:
    return f"{scene.volume}-2"


def _id(cloud: EbsCloud, name: str) -> str:
    (found,) = [each.volume_id for each in cloud.ec2.volumes() if each.tags.get("volplug:name") == name]
    return found


def _in_container(host: Host, volume: str, script: str) -> str:
    options = ("--volume-driver=volplug", "-v", f"{volume}:/data")
    return host.engine.output_of(*options, image=IMAGE, script=script).strip()


def _write(host: Host, volume: str, text: str) -> None:
    _in_container(host, volume, f"echo {text} >/data/file")


def _read(host: Host, volume: str) -> str:
    return _in_container(host, volume, "cat /data/file")


def _is_known(host: Host, volume: str) -> None:
    wait_until(
        lambda: volume in host.docker("volume", "ls", "--quiet").split(), TIMEOUT_S, f"{volume} is known"
    )


def test_a_snapshot_becomes_another_volume(scene: Scene, cloud: EbsCloud, operator: Operator) -> None:
    shown = operator.does(_PAGE, "Back up an EBS volume")
    _write(scene.a, scene.volume, "second")
    operator.knows({"snap-0123456789abcdef0": json.loads(shown)["SnapshotId"]})
    operator.does(_PAGE, "Restore an EBS volume")
    _is_known(scene.b, _other(scene))
    assert (_read(scene.b, _other(scene)), _read(scene.a, scene.volume)) == ("first", "second")


def test_a_mounted_volume_grows(scene: Scene, cloud: EbsCloud, operator: Operator) -> None:
    scene.a.docker("run", "-d", "--name=web", "-v", f"{scene.volume}:/data", IMAGE, "sleep", "1000")
    operator.knows({" 20": " 2"})
    size_kib = "df -k /data | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2"
    before = int(scene.a.docker("exec", "web", "sh", "-c", size_kib))
    operator.does(_PAGE, "Grow an EBS volume")
    assert int(scene.a.docker("exec", "web", "sh", "-c", size_kib)) > before + 900 * 1024
    assert scene.a.docker("exec", "web", "cat", "/data/file") == "first\n"


def test_volumes_are_listed_found_unused_and_renamed(
    scene: Scene, cloud: EbsCloud, operator: Operator
) -> None:
    volume_id = _id(cloud, scene.volume)
    operator.knows({"Values=prod": "Values=lab Name=status,Values=available"})
    listed = operator.does(_PAGE, "List volumes", 1)
    assert listed.split() == [scene.volume, volume_id, "available", "None", cloud.zone, "1"]
    assert operator.does(_PAGE, "No such volume, on one host only").split() == [volume_id, "lab"]
    operator.does(_PAGE, "Rename", 1)
    _is_known(scene.b, _other(scene))
    assert _read(scene.b, _other(scene)) == "first"


_REXRAY = "docs/from-rexray.md"


def test_a_volume_of_rexray_is_taken_over_by_seven_tags(
    scene: Scene, cloud: EbsCloud, tmp_path: Path
) -> None:
    (instance,) = [each for each in cloud.ec2.instances() if each.instance_id == cloud.node_id(scene.a)]
    operator = Operator(scene.a.engine.run, {}, tmp_path, cloud.ec2.endpoint)
    names = {
        "vol-0123456789abcdef0": _made_by_rexray(scene, operator),
        "i-0123456789abcdef0": instance.instance_id,
        "/dev/nvme1n1": f"{instance.dev_root}/nvme1n1",
        "tags.json": str(tmp_path / "tags.json"),
    }
    operator.knows(names)
    probed = operator.does(_REXRAY, "Take volumes over", 0)
    uuid = next(line for line in probed.splitlines() if line.startswith("UUID=")).removeprefix("UUID=")
    names = {"prod": "lab", "17179869184": str(2**30), "12345678-1234-1234-1234-123456789abc": uuid}
    operator.knows({**names, '"db"': f'"{scene.volume}"', "inspect db": f"inspect {scene.volume}"})
    shown = json.loads(operator.does(_REXRAY, "Take volumes over", 1))
    assert (shown[0]["Status"]["state"], shown[0]["Status"]["fs"]) == ("available", "ext4")
    assert _read(scene.a, scene.volume) == "precious"
    _write(scene.b, scene.volume, "more")
    assert _read(scene.a, scene.volume) == "more"


_CREATE = """
aws ec2 create-volume --size 1 --availability-zone {zone} --query VolumeId --output text \
  --tag-specifications '[{{"ResourceType": "volume", "Tags": [{{"Key": "Name", "Value": "{name}"}}]}}]'
"""
_FILL = """
mkfs.ext4 -q -F {image}
mkdir {place}
mount -o loop {image} {place}
mkdir {place}/data
echo precious >{place}/data/file
umount {place}
"""


def _made_by_rexray(scene: Scene, operator: Operator) -> str:
    """A volume in REX-Ray's layout, its name in the tag `Name` and its files in `data`; return its id."""
    volume_id = operator.types(_CREATE.format(zone="eu-central-1a", name=scene.volume)).strip()
    image = scene.hosts.directory / "volumes" / f"{volume_id}.img"
    operator.types(_FILL.format(image=image, place=scene.hosts.directory / "rexray"))
    return volume_id
