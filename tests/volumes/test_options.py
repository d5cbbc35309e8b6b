from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volplug.drivers.base import DriverInfo, Scope
from volplug.errors import ErrorContext, InvalidOption, InvalidRequest, InvalidSize, OptionHelp, VolumeExists
from volplug.models import Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB, MIB, TIB
from volplug.volumes.options import Defaults, check_same, read_options, resolve

INFO = DriverInfo(
    driver="loop",
    scope=Scope.LOCAL,
    remote=False,
    options={"allocation": "preallocated|sparse", "io-size": "4096"},
    option_aliases={"provisioning": "allocation"},
    profiles={"sparse": {"allocation": "sparse"}},
)
PLAIN = Defaults()
MODE = "Write octal permission bits, such as 0750; in YAML in quotes, or it becomes another number."


def spec(options: dict[str, str] | None = None, defaults: Defaults = PLAIN) -> VolumeSpec:
    return resolve(read_options("v", options or {}), INFO, defaults).spec


def refusal(options: dict[str, str], defaults: Defaults = PLAIN) -> str:
    with pytest.raises(InvalidRequest) as refused:
        resolve(read_options("v", options), INFO, defaults)
    return str(refused.value)


# Drivers whose volumes are filesystems from their creation

OWN = replace(INFO, driver="zfs", own_filesystem="zfs", minimum_size_bytes=MIB)


def test_a_driver_with_its_own_filesystem_has_volumes_of_that_whatever_the_default_is() -> None:
    made = resolve(read_options("v", {"size": "1MiB", "mount-opts": "noatime"}), OWN, Defaults("xfs")).spec
    assert made == VolumeSpec("v", MIB, "zfs", mount_options=("noatime",))


@pytest.mark.parametrize("option", ["fs", "mkfs-opts"])
@pytest.mark.parametrize("is_in_profile", [False, True])
def test_it_refuses_options_of_a_format_with_the_reason(option: str, is_in_profile: bool) -> None:
    given = {option: {"fs": "xfs", "mkfs-opts": "-m 0"}[option]}
    defaults = Defaults(profiles={"gold": given})
    options = {"profile": "gold"} if is_in_profile else given
    with pytest.raises(InvalidOption) as refused:
        resolve(read_options("v", options), OWN, defaults)
    assert refused.value.cause == (
        f"option {option!r} is not for driver zfs: its volumes are zfs filesystems from their creation, "
        "none is made on them"
    )
    with pytest.raises(OptionHelp) as help_text:
        resolve(read_options("v", {"help": ""}), OWN, PLAIN)
    assert f" {option}=" not in str(help_text.value)


# Defaults and profiles


def test_without_options_the_defaults_of_driver_and_host_apply() -> None:
    assert spec() == VolumeSpec("v", GIB, "ext4")
    assert spec(defaults=Defaults("xfs", 5 * GIB)) == VolumeSpec("v", 5 * GIB, "xfs")


def test_an_option_of_a_driver_has_aliases() -> None:
    assert dict(spec({"Provisioning": "sparse"}).driver_options) == {"allocation": "sparse"}
    assert (
        refusal({"provisioning": "sparse", "allocation": "sparse"}) == "option 'allocation' is given twice."
    )


def test_options_take_precedence_over_the_profile_and_that_over_the_defaults() -> None:
    gold = {"size": "20", "fs": "xfs", "MkfsOpts": "-m reflink=1", "allocation": "sparse"}
    defaults = Defaults("btrfs", 5 * GIB, {"gold": gold})
    assert spec({"profile": "gold", "size": "30GiB"}, defaults) == VolumeSpec(
        "v",
        30 * GIB,
        "xfs",
        mkfs_options=("-m", "reflink=1"),
        profile="gold",
        driver_options=(("allocation", "sparse"),),
    )


def test_profiles_of_the_driver_exist_and_can_be_replaced() -> None:
    assert spec({"profile": "sparse"}).driver_options == (("allocation", "sparse"),)
    replaced = Defaults(profiles={"sparse": {"size": "2"}, "default": {"uid": "7"}})
    assert spec({"profile": "sparse"}, replaced).driver_options == ()
    assert spec({}, replaced).uid == 7


@pytest.mark.parametrize("option", ["backend", "profile"])
def test_a_profile_cannot_choose_backend_or_profile(option: str) -> None:
    text = refusal({"profile": "gold"}, Defaults(profiles={"gold": {option: "x"}}))
    assert text == f"profile 'gold' sets '{option}', which profiles cannot."


def test_an_unknown_profile_is_refused_naming_the_existing_ones() -> None:
    text = refusal({"profile": "platinum"}, Defaults(profiles={"gold": {}}))
    assert text == "unknown profile 'platinum'. Profiles are default, gold, sparse."


def test_only_what_the_user_named_is_explicit() -> None:
    defaults = Defaults(profiles={"gold": {"size": "20"}})
    request = resolve(read_options("v", {"Profile": "gold", "FS-type": "xfs"}), INFO, defaults)
    assert request.explicit == {"profile", "fs"}


# Names of options


@pytest.mark.parametrize(
    ("key", "attribute", "value"),
    [
        ("size", "size_bytes", 2 * GIB),
        ("SIZE", "size_bytes", 2 * GIB),
        ("S_i-Z_e", "size_bytes", 2 * GIB),
        ("uid", "uid", 2),
        ("driver", None, None),
    ],
)
def test_keys_ignore_case_dash_and_underscore(key: str, attribute: str | None, value: object) -> None:
    if attribute is None:
        assert refusal({key: "2"}).startswith(f"unknown option {key!r}. ")
    else:
        assert getattr(spec({key: "2"}), attribute) == value


@pytest.mark.parametrize("key", ["fs", "fsType", "FS_TYPE", "filesystem"])
def test_the_filesystem_has_its_usual_names(key: str) -> None:
    assert spec({key: " XFS "}).fs_type == "xfs"


@pytest.mark.parametrize("key", ["mkfs-opts", "mkfs_opts", "mkfsoptions", "fsOpts"])
def test_mkfs_options_have_their_usual_names(key: str) -> None:
    assert spec({key: "-m 0"}).mkfs_options == ("-m", "0")


@pytest.mark.parametrize("key", ["mount-opts", "MountOpts", "mount_options"])
def test_mount_options_have_their_usual_names(key: str) -> None:
    assert spec({key: "noatime,discard"}).mount_options == ("noatime", "discard")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("sise", "size"),
        ("siz", "size"),
        ("filesytem", "fs"),
        ("mountopt", "mount-opts"),
        ("alocation", "allocation"),
    ],
)
def test_a_mistyped_option_is_refused_with_a_suggestion(key: str, meant: str) -> None:
    expected = f"unknown option {key!r}. Did you mean {meant!r}? All options are listed by -o help."
    assert refusal({key: "1"}) == expected


@pytest.mark.parametrize(
    ("key", "shown"),
    [("quota", "'quota'"), ("", "''"), ("x" * 500, f"'{'x' * 40}...'"), ("é\n", r"'\xe9\n'")],
)
def test_an_unknown_option_is_refused_naming_the_list_of_all(key: str, shown: str) -> None:
    assert refusal({key: "1"}) == f"unknown option {shown}. All options are listed by -o help."


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mkfs-opts": "x" * 4097}, "option 'mkfs-opts' has 4097 bytes, more than 4096."),
        ({"mkfs-opts": "\u00fc" * 2049}, "option 'mkfs-opts' has 4098 bytes, more than 4096."),
        ({"k" * 50: "v" * 5000}, f"option '{'k' * 40}...' has 5000 bytes, more than 4096."),
        ({"k" * 70_000: ""}, "the options have 70000 bytes together, more than 65536."),
        ({f"k{n}": "v" * 4000 for n in range(20)}, "the options have 80050 bytes together, more than 65536."),
        (
            {"mkfs-opts": "-L seventeen-letters"},
            "the label 'seventeen-letters' has more than 16 bytes, the most of ext4.",
        ),
        (
            {"fs": "xfs", "mkfs-opts": "-L thirteen-char"},
            "the label 'thirteen-char' has more than 12 bytes, the most of xfs.",
        ),
        (
            {"fs": "btrfs", "mkfs-opts": f"-L{'x' * 256}"},
            f"the label '{'x' * 40}' has more than 255 bytes, the most of btrfs.",
        ),
    ],
)
def test_a_value_that_is_too_long_is_refused_with_the_limit(options: dict[str, str], error: str) -> None:
    assert refusal(options) == error


@pytest.mark.parametrize("label", ["a\0b", "a\nb", "\ud800"])
def test_a_label_that_mkfs_does_not_accept_is_refused(label: str) -> None:
    assert refusal({"mkfs-opts": f"-L '{label}'"}).startswith("option 'mkfs-opts' has ")


def test_the_longest_label_is_fine() -> None:
    assert spec({"mkfs-opts": "-L sixteen-letters-"}).mkfs_options == ("-L", "sixteen-letters-")


def test_an_option_given_under_two_names_is_refused() -> None:
    assert refusal({"fs": "xfs", "fstype": "ext4"}) == "option 'fs' is given twice."


@pytest.mark.parametrize("key", ["help", "HELP"])
def test_help_lists_every_option_in_one_line(key: str) -> None:
    with pytest.raises(OptionHelp) as listed:
        spec({key: ""})
    text = str(listed.value.in_context(ErrorContext("create", "v")))
    assert text == (
        "options of driver loop: allocation=preallocated|sparse, backend=NAME, fs=btrfs|ext4|xfs, gid=0, "
        "io-size=4096, mkfs-opts='-m 0', mode=0755, mount-opts=noatime, profile=NAME, size=1GiB, uid=0 "
        '[create "v"].'
    )


# Values


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("10", 10 * GIB),
        ("512MiB", 512 * MIB),
        ("1.5G", 1536 * MIB),
        ("10000001B", 10 * MIB),
        ("16TiB", 16 * TIB),
    ],
)
def test_sizes_are_rounded_up_to_whole_units(text: str, size_bytes: int) -> None:
    assert spec({"size": text}).size_bytes == size_bytes


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": "0"}, "size '0' is not above zero. Write a number and a unit, such as 10GiB or 512MiB."),
        ({"size": "-1"}, "size '-1' cannot be read. Write a number and a unit, such as 10GiB or 512MiB."),
        ({"size": "1.5X"}, "size '1.5X' cannot be read. Write a number and a unit, such as 10GiB or 512MiB."),
        (
            {"size": "1EiB"},
            "size 1048576TiB is above the maximum of 16TiB of driver loop. "
            "Ask for less; a number without a unit is GiB.",
        ),
        ({"size": "7MiB"}, "size 7MiB is below the minimum of 8MiB for ext4."),
        ({"size": "1B"}, "size 1B is below the minimum of 8MiB for ext4."),
        ({"size": "100MiB", "fs": "xfs"}, "size 100MiB is below the minimum of 300MiB for xfs."),
        ({"size": "100MiB", "fs": "btrfs"}, "size 100MiB is below the minimum of 128MiB for btrfs."),
        ({"fs": "zfs"}, "unknown filesystem 'zfs'. Use one of btrfs, ext4, xfs."),
        ({"uid": "-1"}, "option 'uid' is '-1'. Write a number from 0 to 4294967294."),
        ({"gid": "root"}, "option 'gid' is 'root'. Write a number from 0 to 4294967294."),
        ({"uid": "4294967295"}, "option 'uid' is '4294967295'. Write a number from 0 to 4294967294."),
        ({"uid": "٣"}, r"option 'uid' is '\u0663'. Write a number from 0 to 4294967294."),
        ({"mode": "0999"}, f"option 'mode' is '0999'. {MODE}"),
        ({"mode": "10000"}, f"option 'mode' is '10000'. {MODE}"),
        ({"mode": "u+w"}, f"option 'mode' is 'u+w'. {MODE}"),
        ({"mode": "0o"}, f"option 'mode' is '0o'. {MODE}"),
        ({"mkfs-opts": "-L 'open"}, "option 'mkfs-opts' cannot be read: no closing quotation."),
    ],
)
def test_invalid_values_are_refused_with_the_reason(options: dict[str, str], text: str) -> None:
    assert refusal(options) == text


@pytest.mark.parametrize(
    ("options", "attribute", "value"),
    [
        ({"uid": "999", "gid": "0"}, "uid", 999),
        ({"gid": "4294967294"}, "gid", 2**32 - 2),
        ({"mode": "1777"}, "mode", 0o1777),
        ({"mode": "0"}, "mode", 0),
        ({"mkfs-opts": "-L 'my data' -m 0"}, "mkfs_options", ("-L", "my data", "-m", "0")),
    ],
)
def test_values_are_read(options: dict[str, str], attribute: str, value: object) -> None:
    assert getattr(spec(options), attribute) == value


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=20), max_size=4))
def test_any_options_give_a_spec_or_an_invalid_option(options: dict[str, str]) -> None:
    try:
        result = spec(options)
    except InvalidRequest as refused:
        assert len(str(refused)) <= 300  # noqa: PT017  # both outcomes are checked
    else:
        assert result.size_bytes >= 8 * MIB


# Comparing with what exists


def volume_of(existing: VolumeSpec, size_bytes: int = 0) -> Volume:
    return Volume("v", "id", "loop", size_bytes or existing.size_bytes, VolumeState.AVAILABLE, existing)


EXISTING = VolumeSpec(
    "v",
    2 * GIB,
    "xfs",
    mkfs_options=("-m", "reflink=1"),
    mount_options=("noatime",),
    uid=999,
    gid=998,
    mode=0o750,
    profile="gold",
    driver_options=(("allocation", "sparse"),),
)
GOLD = Defaults(profiles={"gold": {}})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": "2"},
        {"size": "2048MiB", "fs": "xfs", "uid": "999", "gid": "998", "mode": "750"},
        {"mkfs-opts": "-mreflink=1", "fs": "xfs", "mount-opts": " noatime"},
        {"profile": "gold", "allocation": "sparse", "backend": "elsewhere"},
    ],
)
def test_unset_and_equal_options_are_no_difference(options: dict[str, str]) -> None:
    check_same(resolve(read_options("v", options), INFO, GOLD), volume_of(EXISTING))


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"size": "3"}, "size is 2GiB, not 3GiB"),
        ({"fs": "ext4"}, "fs is xfs, not ext4"),
        ({"mode": "755"}, "mode is 0750, not 0755"),
        ({"mount-opts": "discard"}, "mount-opts is noatime, not discard"),
        ({"allocation": "preallocated"}, "allocation is sparse, not preallocated"),
        ({"io-size": "512"}, "io-size is unset, not 512"),
        ({"profile": "default"}, "profile is gold, not default"),
        ({"uid": "1", "gid": "2"}, "gid is 998, not 2, uid is 999, not 1"),
    ],
)
def test_every_difference_is_named(options: dict[str, str], difference: str) -> None:
    with pytest.raises(VolumeExists) as refused:
        check_same(resolve(read_options("v", options), INFO, GOLD), volume_of(EXISTING))
    assert str(refused.value) == (
        f"a volume of this name exists and differs: {difference}. Use it as it is, or choose another name."
    )


@pytest.mark.parametrize(("size", "is_same"), [("2GiB", True), ("3GiB", True), ("2.5GiB", False)])
def test_the_requested_and_the_current_size_are_no_difference(size: str, is_same: bool) -> None:
    """A backend may have rounded up, or the volume may have grown since."""
    request = resolve(read_options("v", {"size": size}), INFO, GOLD)
    existing = volume_of(replace(EXISTING, size_bytes=2 * GIB), size_bytes=3 * GIB)
    if is_same:
        check_same(request, existing)
    else:
        with pytest.raises(VolumeExists, match="size is 3GiB, not 2560MiB"):
            check_same(request, existing)


def test_sizes_out_of_range_are_invalid_sizes() -> None:
    with pytest.raises(InvalidSize):
        spec({"size": "17TiB"})


def test_a_drivers_alias_for_what_is_no_option_of_its_own_is_unknown() -> None:
    """It would be taken for an option of the driver, and the size be the default."""
    info = replace(INFO, option_aliases={"volumesize": "size"})
    with pytest.raises(InvalidOption, match="unknown option 'volume-size'"):
        resolve(read_options("v", {"volume-size": "2GiB"}), info, PLAIN)
