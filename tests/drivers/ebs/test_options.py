import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volplug.drivers.ebs import options
from volplug.drivers.ebs.options import INFO, check_options, create_parameters, parse_tags, user_tags
from volplug.drivers.ebs.settings import EbsSettings
from volplug.errors import ErrorContext, InvalidOption, InvalidSize, OptionHelp, VolplugError
from volplug.models import VolumeSpec
from volplug.sizes import GIB
from volplug.volumes.options import Defaults, read_options, resolve

ZONE = "eu-central-1a"


def spec_of(size_gib: int = 10, **chosen: str) -> VolumeSpec:
    pairs = sorted((name.replace("_", "-"), value) for name, value in chosen.items())
    return VolumeSpec("v", size_gib * GIB, driver_options=tuple(pairs))


def parameters_of(spec: VolumeSpec, **settings: object) -> dict[str, object]:
    check_options(spec)
    return create_parameters(spec, EbsSettings.model_validate(settings), ZONE)


def test_help_is_whole_and_lists_the_types() -> None:
    with pytest.raises(OptionHelp) as listed:
        resolve(read_options("v" * 128, {"help": ""}), INFO, Defaults())
    text = str(listed.value.in_context(ErrorContext("create", "v", "ebs", "", "i-0123456789abcdef0")))
    assert text == (
        "options of driver ebs: availability-zone=ZONE, backend=NAME, encrypted=true|false, "
        "fs=btrfs|ext4|xfs, gid=0, iops=3000, kms-key-id=KEY, mkfs-opts='-m 0', mode=0755, "
        "mount-opts=noatime, profile=NAME, size=10GiB, tags='team=web,stage=test', throughput=125, "
        "type=gp3|gp2|io1|io2|sc1|st1|standard, uid=0 "
        '[create "v", ebs, node i-0123456789abcdef0].'
    )
    assert len(text) > 300, "errors are cut there"


@pytest.mark.parametrize(
    ("spec", "settings", "changes"),
    [
        (spec_of(), {}, {}),
        (spec_of(type="gp3", iops="5000", throughput="500"), {}, {"Iops": 5000, "Throughput": 500}),
        (spec_of(type="io2"), {}, {"VolumeType": "io2", "Iops": 3000}),
        (spec_of(4, type="io1"), {}, {"VolumeType": "io1", "Size": 4, "Iops": 200}),
        (spec_of(4, type="io2", iops="4000"), {}, {"VolumeType": "io2", "Size": 4, "Iops": 4000}),
        (spec_of(125, type="st1"), {}, {"VolumeType": "st1", "Size": 125}),
        (spec_of(availability_zone="eu-central-1b"), {}, {"AvailabilityZone": "eu-central-1b"}),
        (spec_of(), {"availability_zone": "eu-central-1c"}, {"AvailabilityZone": "eu-central-1c"}),
        (
            spec_of(availability_zone="eu-central-1b"),
            {"availability_zone": "eu-central-1c"},
            {"AvailabilityZone": "eu-central-1b"},
        ),
        (spec_of(encrypted="true"), {}, {"Encrypted": True}),
        (spec_of(encrypted="false"), {"kms_key_id": "alias/k"}, {}),
        (spec_of(), {"kms_key_id": "alias/k"}, {"Encrypted": True, "KmsKeyId": "alias/k"}),
        (
            spec_of(kms_key_id="alias/mine"),
            {"kms_key_id": "alias/k"},
            {"Encrypted": True, "KmsKeyId": "alias/mine"},
        ),
    ],
)
def test_ec2_is_asked_for_what_the_options_say(
    spec: VolumeSpec, settings: dict[str, object], changes: dict[str, object]
) -> None:
    blank = {"AvailabilityZone": ZONE, "Size": 10, "VolumeType": "gp3"}
    assert parameters_of(spec, **settings) == blank | changes


def test_hosts_that_differ_in_all_but_the_key_ask_for_the_same() -> None:
    spec = spec_of(type="io2", iops="4000", encrypted="true", tags="b=1,a=2")
    one = parameters_of(spec, region="eu-central-1", availability_zone=ZONE)
    other = parameters_of(spec, profile="ops", max_retries=3, endpoint="http://e")
    assert list(one.items()) == list(other.items())


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (spec_of(type="gp4"), "option 'type' is 'gp4'. Write gp3|gp2|io1|io2|sc1|st1|standard."),
        (spec_of(iops="many"), "option 'iops' is 'many'. Write 3000."),
        (spec_of(encrypted="yes"), "option 'encrypted' is 'yes'. Write true|false."),
        (spec_of(availability_zone="b"), "option 'availability-zone' is 'b'. Write ZONE."),
        (
            spec_of(type="gp2", iops="3000"),
            "option 'iops' cannot be chosen for type gp2. It can for gp3, io1, io2.",
        ),
        (
            spec_of(type="io2", throughput="500"),
            "option 'throughput' cannot be chosen for type io2. It can for gp3.",
        ),
        (spec_of(iops="2999"), "option 'iops' is 2999, but type gp3 takes 3000 to 80000."),
        (spec_of(throughput="124"), "option 'throughput' is 124, but type gp3 takes 125 to 2000."),
        (
            spec_of(iops="5001"),
            "option 'iops' is 5001, but type gp3 gives 500 for each GiB, 5000 at this size.",
        ),
        (
            spec_of(4, type="io1", iops="201"),
            "option 'iops' is 201, but type io1 gives 50 for each GiB, 200 at this size.",
        ),
        (spec_of(throughput="751"), "option 'throughput' is 751, which takes 3004 iops, not 3000."),
        (
            spec_of(kms_key_id="alias/k", encrypted="false"),
            "option 'kms-key-id' contradicts 'encrypted=false'.",
        ),
        (spec_of(tags="team"), "option 'tags' has 'team'. Write 'team=web,stage=test', each key once."),
        (spec_of(tags="a=1,a=2"), "option 'tags' has 'a=2'. Write 'team=web,stage=test', each key once."),
        (
            spec_of(tags="AWS:x=1"),
            "option 'tags': tag 'AWS:x': keys with aws: or volplug: are reserved.",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(spec: VolumeSpec, text: str) -> None:
    with pytest.raises(InvalidOption) as wrong:
        check_options(spec)
    assert str(wrong.value) == text


@pytest.mark.parametrize(
    ("size_gib", "chosen", "text"),
    [
        (3, "io2", "size 3GiB is not between 4 and 65536GiB, as type io2 comes."),
        (124, "sc1", "size 124GiB is not between 125 and 16384GiB, as type sc1 comes."),
        (1025, "standard", "size 1025GiB is not between 1 and 1024GiB, as type standard comes."),
        (65_537, "gp3", "size 65537GiB is not between 1 and 65536GiB, as type gp3 comes."),
    ],
)
def test_a_size_that_the_type_does_not_come_in_is_refused(size_gib: int, chosen: str, text: str) -> None:
    with pytest.raises(InvalidSize) as wrong:
        check_options(spec_of(size_gib, type=chosen))
    assert str(wrong.value) == text


@settings(deadline=None)
@given(
    size_gib=st.integers(1, 65_536),
    chosen=st.dictionaries(
        st.sampled_from(sorted(options.OPTIONS)),
        st.sampled_from([*options.TYPES, "true", "125", "3000", "70000", "a=1", "snap-01234567", "", "?"]),
    ),
)
def test_whatever_is_checked_can_be_asked_for_with_whole_gib(size_gib: int, chosen: dict[str, str]) -> None:
    spec = VolumeSpec("v", size_gib * GIB, driver_options=tuple(sorted(chosen.items())))
    try:
        check_options(spec)
    except VolplugError:
        return
    parameters = create_parameters(spec, EbsSettings(), ZONE)
    assert parameters["Size"] == size_gib
    kind = options.TYPES[parameters["VolumeType"]]
    assert kind.iops is not None or "Iops" not in parameters
    assert parameters.get("Iops", 0) <= max(kind.iops_per_gib * size_gib, kind.iops[0] if kind.iops else 0)


@pytest.mark.parametrize(
    ("raw", "chosen"),
    [
        # What REX-Ray's users write.
        ({"volumeType": "io1", "IOPS": "200"}, {"type": "io1", "iops": "200"}),
        ({"volume_type": "gp2"}, {"type": "gp2"}),
        ({"availabilityZone": ZONE}, {"availability-zone": ZONE}),
        ({"az": ZONE}, {"availability-zone": ZONE}),
        ({"encrypted": "true", "encryptionKey": "k"}, {"encrypted": "true", "kms-key-id": "k"}),
        ({"kmsKeyId": "k"}, {"kms-key-id": "k"}),
    ],
)
def test_other_words_for_options_are_understood(raw: dict[str, str], chosen: dict[str, str]) -> None:
    assert dict(resolve(read_options("v", raw), INFO, Defaults()).spec.driver_options) == chosen


def test_every_alias_is_folded_and_leads_to_an_option() -> None:
    assert set(options.OPTION_ALIASES.values()) <= options.OPTIONS.keys()
    assert [name for name in options.OPTION_ALIASES if re.search(r"[^a-z]", name)] == []


@pytest.mark.parametrize(("profile", "kind"), [("gold", "io2"), ("silver", "gp3"), ("bronze", "standard")])
def test_profiles_choose_types(profile: str, kind: str) -> None:
    spec = resolve(read_options("v", {"profile": profile}), INFO, Defaults()).spec
    assert parameters_of(spec)["VolumeType"] == kind


def test_a_profile_that_does_not_come_in_this_size_is_an_error_not_another_profile() -> None:
    spec = resolve(read_options("v", {"profile": "bronze", "size": "2TiB"}), INFO, Defaults()).spec
    with pytest.raises(InvalidSize):
        check_options(spec)


@pytest.mark.parametrize("option", ["volumeName", "volumeID", "snapshotName", "snapshotID"])
def test_options_of_rexray_that_name_existing_data_suggest_no_other_option(option: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        resolve(read_options("v", {option: "x"}), INFO, Defaults())
    assert caught.value.remedy == "All options are listed by -o help"


def test_several_hosts_cannot_share_a_volume_at_once() -> None:
    with pytest.raises(InvalidOption, match="unknown option 'multi-attach'"):
        resolve(read_options("v", {"multi-attach": "true"}), INFO, Defaults())


def test_a_volumes_own_tags_win_over_the_backends() -> None:
    settings = EbsSettings(tags={"team": "ops", "cost": "7"})
    spec = spec_of(tags="team=web, stage=a=b,")
    assert user_tags(spec, settings) == {"team": "web", "cost": "7", "stage": "a=b"}


def test_no_tags_are_no_tags() -> None:
    assert parse_tags("") == {}
