"""The commands of docs/cli.md, run on a real host: volplug on loop volumes, found where it is by default."""

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.api.tls_site import made_in
from tests.lab.operator import Operator
from tests.lab.plugin import VolplugProcess
from tests.lab.programs import clean_environment
from tests.lab.waiting import wait_until
from tests.pages import ROOT
from tests.served.conftest import local_machine

pytestmark = [pytest.mark.cli, pytest.mark.loop]

_PAGE = "docs/cli.md"
_VOLPLUG = """#!/bin/sh
PYTHONPATH={root} exec {python} -m volplug "$@"
"""
# A host of its own as far as commands see: the socket is where that of a service is.
_ON_HOST = """
mount -t tmpfs none /run
mkdir /run/volplug
ln -s "$0" /run/volplug/control.sock
exec "$@"
"""


@pytest.fixture(scope="module")
def volplug(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolplugProcess]:
    """A volplug with a listener on TCP, whose files are those that the page names."""
    with local_machine() as machine:
        settings = made_in(machine.directory).settings
        files = ("control_names", "control_cert", "control_key", "control_access")
        env = {f"VOLPLUG_{name.upper()}": str(getattr(settings, name)) for name in files}
        env["VOLPLUG_CONTROL_LISTEN"] = settings.control_listen
        with VolplugProcess(machine, env=env) as process:
            wait_until((process.state_dir / "control.sock").exists, 10, "the control API is served")
            wait_until(lambda: "served on TCP" in process.log_text, 10, "the control API is served on TCP")
            yield process


@pytest.fixture
def operator(volplug: VolplugProcess, tmp_path: Path) -> Operator:
    """An operator who is root on the host."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "volplug").write_text(_VOLPLUG.format(root=ROOT, python=sys.executable))
    (programs / "volplug").chmod(0o755)
    environment = clean_environment(HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path))

    def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        socket = str(volplug.state_dir / "control.sock")
        command = ["unshare", "--mount", "--propagation=private", "sh", "-euc", _ON_HOST, socket, *argv]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
        )

    return Operator(run, {}, programs)


def test_the_tour(operator: Operator) -> None:
    shown = operator.does(_PAGE, "Tour")
    created, header, row, *_ = shown.splitlines()
    assert created == "todolist"
    assert header.split() == ["NAME", "STATE", "SIZE", "HOLDER", "CREATED"]
    assert row.split()[:3] == ["todolist", "available", "64MiB"]
    assert "available 67108864\n" in shown
    assert operator.types("volplug volume ls -q") == ""


def test_another_hosts_volplug_is_named_by_a_context(volplug: VolplugProcess, operator: Operator) -> None:
    directory = volplug.state_dir.parent
    made = operator.does(_PAGE, "Another host's volplug", 0)
    token, line = made.splitlines()
    with (directory / "access").open("a") as access:
        access.write(f"{line}\n")
    file = directory / "token"
    file.write_text(token)
    address = re.findall(r'served on TCP" address=127.0.0.1:(\d+)', volplug.log_text)[-1]
    operator.knows(
        {
            "tcp://node1.example.com:8443": f"tcp://localhost:{address}",
            "--token-file token": f"--token-file {file}",
            "ca.pem": str(directory / "ca.pem"),
        }
    )
    assert operator.does(_PAGE, "Another host's volplug", 1).split() == [
        "NAME",
        "STATE",
        "SIZE",
        "HOLDER",
        "CREATED",
    ]
    shown = operator.does(_PAGE, "Another host's volplug", 2).splitlines()
    assert [line.split()[0] for line in shown] == [
        "node1",
        "node1",
        "NAME",
        "NAME",
        "default",
        "node1",
        "default",
        "node1",
    ]
    refused = operator.tries(
        f"volplug -H tcp://localhost:{address} --token-file {file} --tlscacert ca.pem volume rm x"
    )
    assert (refused.returncode, refused.stdout) == (6, "")
    assert 'has the role read [rm "x"]. The request needs admin.' in refused.stderr


def test_a_bundle_has_what_a_maintainer_needs_and_no_secret(
    volplug: VolplugProcess, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[backends.cloud]\ndriver = "ebs"\nsecret_key = "very-secret-indeed"\nregion = "x"\n')
    operator.types("volplug volume create --size 64MiB bundled")
    operator.knows(
        {"volplug logs": f"VOLPLUG_CONFIG={config} VOLPLUG_STATE_DIR={volplug.state_dir} volplug logs"}
    )
    operator.does(_PAGE, "For a bug report")
    archive = tmp_path / "volplug.tar.gz"
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as opened:
        found = {name: opened.extractfile(name) for name in opened.getnames()}
        texts = {
            name.removeprefix("volplug/"): file.read() for name, file in found.items() if file is not None
        }
    names = {name.removesuffix(".missing") for name in texts}
    assert names >= {"versions.json", "settings.json", "mountinfo.txt", "devices.txt", "state/files.txt"}
    assert names >= {
        "log/volplug.service.txt",
        "log/docker.service.txt",
        "state/state.sqlite",
        "api/events.json",
    }
    assert any(name.startswith("daemon-") and name.endswith("/mountinfo.txt") for name in names)
    assert json.loads(texts["api/volumes.json"])[0]["name"] == "bundled"
    settings = {each["name"]: each for each in json.loads(texts["settings.json"])}
    assert settings["backends.cloud.secret_key"]["value"] == "***"
    assert settings["backends.cloud.region"] == {
        "name": "backends.cloud.region",
        "value": "x",
        "from": f"file {config}",
    }
    assert settings["state_dir"]["from"] == "variable VOLPLUG_STATE_DIR"
    assert b"very-secret" not in b"".join(texts.values())
    again = operator.tries("volplug logs bundle --file volplug.tar.gz")
    assert (again.returncode, "File exists" in again.stderr) == (1, True)
    operator.types("volplug volume rm bundled")


def test_the_shell_completes_commands(operator: Operator, tmp_path: Path) -> None:
    operator.knows({"/etc/bash_completion.d": str(tmp_path)})
    operator.does(_PAGE, "Completion")
    words = "COMP_WORDS=(volplug vol); COMP_CWORD=1; _volplug_completion volplug; echo ${COMPREPLY[@]}"
    assert operator.types(f"bash -c '. {tmp_path}/volplug; {words}'").split() == ["volume"]


def test_settings_are_shown_with_their_places_and_mistakes(operator: Operator) -> None:
    shown = operator.tries(
        "VOLPLUG_LINGER_S=7 volplug config show --answer-s 9 --format '{{.Name}}={{.Value}} {{.From}}'"
    )
    lines = shown.stdout.splitlines()
    assert {
        "linger_s=7 variable VOLPLUG_LINGER_S",
        "answer_s=9 flag --answer-s",
        "log_level=info default",
    } <= {*(line.replace("7.0", "7").replace("9.0", "9") for line in lines)}
    wrong = operator.tries("VOLPLUG_HOST=unix:///x VOLPLUG_LINGER_S=soon volplug config check")
    assert wrong.returncode == 1
    assert "VOLPLUG_LINGER_S" in wrong.stdout
    assert "VOLPLUG_HOST" not in wrong.stdout  # it is the command line's own
    assert operator.tries("VOLPLUG_LINGER_S=soon volplug config show").returncode == 1
    assert operator.types("volplug config check").endswith("no mistakes found\n")
