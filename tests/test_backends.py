"""A default backend that was not chosen is doubted where variables of a cloud are set."""

import pytest

from volplug.backends import doubt_of
from volplug.config import Settings

_LOOP = "VOLPLUG_BACKEND=loop"


@pytest.mark.parametrize(
    ("variables", "cause", "remedy", "is_refused"),
    [
        (
            ("EBS_ACCESSKEY", "EBS_REGION", "EBS_SECRETKEY", "EBS_X"),
            "variables of ebs are set (EBS_ACCESSKEY, EBS_REGION, EBS_SECRETKEY, ...)",
            f"Set VOLPLUG_BACKEND=ebs, or {_LOOP} for this host's disk",
            True,
        ),
        (
            ("CINDER_AUTHURL",),
            "variables of cinder are set (CINDER_AUTHURL), and driver cinder is not installed",
            f"Set {_LOOP} for volumes on this host's disk",
            True,
        ),
        (("AWS_PROFILE",), "(AWS_PROFILE)", "Set VOLPLUG_BACKEND=ebs", False),
    ],
)
def test_a_default_is_doubted(
    variables: tuple[str, ...],
    cause: str,
    remedy: str,
    is_refused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in variables:
        monkeypatch.setenv(name, "x")
    doubt = doubt_of(Settings())
    assert doubt is not None
    assert doubt[0].cause.startswith("no backend is chosen, but ")
    assert doubt[0].cause.endswith(cause)
    assert doubt[0].remedy.startswith(remedy)
    assert doubt[1] is is_refused


@pytest.mark.parametrize(
    "settings",
    [{"backend": "loop"}, {"backend": "ebs"}, {"backends": {"disks": {"driver": "loop"}}}],
)
def test_a_backend_that_was_chosen_is_not_doubted(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EBS_ACCESSKEY", "x")
    assert doubt_of(Settings.model_validate(settings)) is None
