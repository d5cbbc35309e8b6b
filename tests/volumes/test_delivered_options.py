"""Option values as Compose, Ansible, Terraform, templates and shells deliver them.

Seen with Compose 1.29 and 2.26, `docker stack deploy` 26.1 and Ansible's community.docker 3.4. Terraform
delivers what HCL makes of numbers and booleans.
"""

import pytest

from volplug.drivers.base import DriverInfo, Scope
from volplug.errors import InvalidRequest
from volplug.models import VolumeSpec
from volplug.sizes import GIB
from volplug.volumes.options import Defaults, read_options, resolve

INFO = DriverInfo(
    driver="cloud",
    scope=Scope.GLOBAL,
    remote=True,
    options={"encrypted": "true|false", "type": "gp3|io2", "zone": "ZONE"},
)
_MODE = "Write octal permission bits, such as 0750; in YAML in quotes, or it becomes another number"


def _spec(key: str, value: str) -> VolumeSpec:
    profiles = {"default": {"mkfs-opts": "-m 1"}}
    return resolve(read_options("v", {key: value}), INFO, Defaults(profiles=profiles)).spec


@pytest.mark.parametrize(
    ("key", "value", "field", "read"),
    [
        pytest.param("size", "10", "size_bytes", 10 * GIB, id="size: 10"),
        pytest.param("size", "0.1", "size_bytes", 103 * 1024**2, id="size: 0.1"),
        pytest.param(
            "size", "10.0", "size_bytes", 10 * GIB, id="size: 10.0 of Compose 1, | float of Ansible"
        ),
        pytest.param("size", "1e1", "size_bytes", 10 * GIB, id="size: 1e1 of Compose 1 and Ansible"),
        pytest.param("size", "1e+03", "size_bytes", 1000 * GIB, id="a large float of Compose 2"),
        pytest.param("size", "3.3333333333333335", "size_bytes", 3414 * 1024**2, id="{{ 10 / 3 }}"),
        pytest.param("size", "10Gi", "size_bytes", 10 * GIB, id="units of Kubernetes"),
        pytest.param("size", "10GiB\n", "size_bytes", 10 * GIB, id="a block of YAML"),
        pytest.param("size", " 10GiB\r", "size_bytes", 10 * GIB, id="a file with CRLF"),
        pytest.param("size", "'10GiB'", "size_bytes", 10 * GIB, id="quotes in quotes"),
        pytest.param(" Size ", '" 10 "', "size_bytes", 10 * GIB, id="quotes of --mount"),
        pytest.param("fs_type", '"XFS"', "fs_type", "xfs", id="upper case"),
        pytest.param("uid", " 999 ", "uid", 999, id="a number with spaces"),
        pytest.param("mode", "'0770'", "mode", 0o770, id="mode in two pairs of quotes"),
        pytest.param("mode", "0504", "mode", 0o504, id="mode without rights, as a string"),
        pytest.param("mode", "0o770", "mode", 0o770, id="octal of YAML 1.2 as a string"),
        pytest.param("mode", "755", "mode", 0o755, id="mode without a zero"),
        pytest.param("mkfs-opts", "'-m 0'", "mkfs_options", ("-m", "0"), id="the quotes of -o help"),
        pytest.param("mkfs-opts", "'-m' '0'", "mkfs_options", ("-m", "0"), id="two pairs"),
        pytest.param("mkfs-opts", "", "mkfs_options", (), id="nothing instead of the profile's"),
        pytest.param("Encrypted", "True", "driver_options", (("encrypted", "true"),), id="Python's boolean"),
        pytest.param("encrypted", "yes", "driver_options", (("encrypted", "true"),), id="Compose 2's yes"),
        pytest.param(
            "encrypted", "0", "driver_options", (("encrypted", "false"),), id="a boolean as a number"
        ),
        pytest.param("type", "GP3", "driver_options", (("type", "gp3"),), id="case of a fixed value"),
        pytest.param("zone", "Yes", "driver_options", (("zone", "Yes"),), id="no boolean, no fixed value"),
    ],
)
def test_what_can_mean_one_thing_only_is_read(key: str, value: str, field: str, read: object) -> None:
    assert getattr(_spec(key, value), field) == read


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        # ${SIZE} in Compose, null in Ansible, a variable of Terraform without a value
        ("size", "", "option 'size' is empty. Set the variable that it comes from, or leave the option out"),
        ("fs", '""', "option 'fs' is empty. Set the variable that it comes from, or leave the option out"),
        ("backend", " ", "option 'backend' is empty. Set the variable"),
        (
            "size",
            "10737418240",
            "size 10485760TiB is above the maximum of 16TiB of driver cloud. Ask for less; a ",
        ),
        ("size", "1,5", "size '1,5' cannot be read"),
        ("size", "10GiB,fs=xfs", "size '10GiB,fs=xfs' cannot be read"),
        ("size", "'10GiB", 'size "\'10GiB" cannot be read'),
        ("size", "{{ size }}", "size '{{ size }}' cannot be read"),
        ("uid", "True", "option 'uid' is 'True'. Write a number from 0 to 4294967294"),
        ("mode", "504", f"option 'mode' is '504'. {_MODE}"),  # mode: 0770
        ("mode", "493", f"option 'mode' is '493'. {_MODE}"),  # mode: 0755
        ("mode", "1023", f"option 'mode' is '1023'. {_MODE}"),  # mode: 01777
    ],
)
def test_what_may_mean_something_else_is_refused(key: str, value: str, text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        _spec(key, value)
    assert str(refused.value).startswith(text)


def test_permission_bits_that_yaml_made_decimal_are_never_taken_for_others() -> None:
    for bits in (each for each in range(0o10000) if each & 0o700 == 0o700):
        with pytest.raises(InvalidRequest):
            _spec("mode", f"{bits:d}")
