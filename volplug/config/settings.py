"""All settings: their meaning, types and defaults.

Every default is defined here, because an upgraded plugin keeps its old environment.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
)

from volplug.config.mistakes import Number
from volplug.errors import InvalidSize
from volplug.host.filesystems import FILESYSTEMS
from volplug.masking import quoted
from volplug.models import TakeoverPolicy
from volplug.names import is_node_name
from volplug.sizes import parse_size

DEFAULT_CONFIG: Final = Path("/etc/volplug/config.toml")
DEFAULT_STATE_DIR: Final = Path("/var/lib/volplug")
DEFAULT_STATE_MARKER: Final = Path("/etc/volplug/state-id")
DEFAULT_CONTROL_SOCKET: Final = Path("/run/volplug/control.sock")
TABLES: Final = ("backends", "nodes", "profiles")  # in the file only
_LogLevel = Literal["debug", "info", "warning", "error"]
_LogFormat = Literal["text", "json"]
_WORDS: Final = frozenset({*FILESYSTEMS, *get_args(_LogLevel), *get_args(_LogFormat), *TakeoverPolicy})
_PORTS: Final = 65_536
EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared, not listened on
_ETCD_URL: Final = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._-]+):[0-9]{1,5}/?", re.ASCII)
_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_BACKEND_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)


def _absolute(path: object) -> object:
    """Resolve a relative path, because the kernel reports absolute ones; refuse an empty one."""
    if path == "":
        raise ValueError("the path is empty", "Leave it out for the default")
    return os.path.abspath(path) if isinstance(path, str | Path) else path


def _fold_case(word: object) -> object:
    """Fold known words only: errors quote others as written, because masks depend on case."""
    folded = word.strip().lower() if isinstance(word, str) else ""
    return folded if folded in _WORDS else word


def _check_filesystem(text: str) -> str:
    if text not in FILESYSTEMS:
        raise ValueError(f"{quoted(text)} is not allowed", f"Write one of {', '.join(FILESYSTEMS)}")
    return text


def _check_size(text: str) -> str:
    try:
        parse_size(text or "1")
    except InvalidSize as error:
        raise ValueError(error.cause, error.remedy) from None
    return text


def _check_listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    if text and not (host and port.isdecimal() and 0 < int(port) < _PORTS):
        raise ValueError(
            f"{quoted(text)} is not HOST:PORT", "Write a host or address and a port, such as 10.0.0.5:8443"
        )
    return text


def _check_backend_name(name: str) -> str:
    if _BACKEND_NAME.fullmatch(name) is None:
        raise ValueError("the name is not allowed", "Use a-z 0-9 _ - and at most 32 characters")
    return name


def _check_urls(text: str) -> str:
    for url in filter(None, (each.strip() for each in text.split(","))):
        if _ETCD_URL.fullmatch(url) is None:
            raise ValueError(
                f"{quoted(url)} is not the URL of a member of etcd", "Write https://10.0.0.1:2379"
            )
    return text


def _check_fingerprint(text: str) -> str:
    if text and _FINGERPRINT.fullmatch(text) is None:
        raise ValueError(
            f"{quoted(text)} is not sha256: and 64 digits", "volplug cluster certificate prints it"
        )
    return text


def _check_node_name(name: str) -> str:
    if not is_node_name(name):
        raise ValueError("the name is not allowed", "Use a-z 0-9 _ - and dots between")
    return name


def _as_text(value: object) -> str:
    """Let a profile in the file have `size = 10` and `encrypted = true` without quotes, as options do."""
    return str(value).lower() if isinstance(value, bool) else str(value)


_Path = Annotated[Path, BeforeValidator(_absolute)]
_Size = Annotated[str, AfterValidator(_check_size)]
_Listen = Annotated[str, AfterValidator(_check_listen)]
_Filesystem = Annotated[str, BeforeValidator(_fold_case), AfterValidator(_check_filesystem)]
_Seconds = Annotated[Number, Field(ge=0)]
_SomeSeconds = Annotated[Number, Field(gt=0)]
_Urls = Annotated[str, AfterValidator(_check_urls)]
_Fingerprint = Annotated[str, AfterValidator(_check_fingerprint)]
_NodeName = Annotated[str, AfterValidator(_check_node_name)]
_BackendName = Annotated[str, AfterValidator(_check_backend_name)]
_OptionValue = Annotated[str, BeforeValidator(_as_text)]


class BackendTable(BaseModel):
    """One `[backends.NAME]` table; its `model_extra` is for the driver, which checks it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    driver: str


class NodeTable(BaseModel):
    """One `[nodes.NAME]` table: a member of a cluster without etcd.

    Attributes:
        address: HOST:PORT at which it serves other nodes.
        fingerprint: SHA-256 of its certificate; empty for any that the cluster's authority has signed for it.
        is_signer: Whether it has the authority's key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: _Listen
    fingerprint: _Fingerprint = ""
    is_signer: bool = False


def _setting(default: object, meaning: str, unset: str = "") -> Any:  # noqa: ANN401  # as of `Field`
    """Describe a setting; `unset` is shown in place of a default that does not explain itself."""
    return Field(default=default, description=meaning, json_schema_extra={"shown": unset or str(default)})


class Settings(BaseModel):
    """All settings, checked. Their meanings and defaults are those of `--help` and docs/configuration.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    socket: _Path = _setting(
        Path("/run/docker/plugins/volplug.sock"),
        "Path of the plugin's socket; its name without .sock is the driver's name",
    )
    state_dir: _Path = _setting(
        DEFAULT_STATE_DIR,
        "Directory of this host's state and, by default, of the loop volumes; closed to other users",
    )
    state_marker: _Path | None = _setting(
        None,
        "Path of a copy of the state directory's id",
        f"{DEFAULT_STATE_MARKER} for the default state directory, none for another",
    )
    mount_root: _Path | None = _setting(
        None,
        "Directory below which volumes are mounted; closed to other users, too",
        "mounts in the state directory",
    )
    backend: str = _setting(
        "", "The backend of volumes created without -o backend=", "the only one configured, else loop"
    )
    cluster: str = _setting(
        "", "Name shared by the hosts that share volumes; ebs and cinder need one", "none"
    )
    node_id: str = _setting(platform.node(), "Name of this host", "the host's name")
    default_size: _Size = _setting(
        "",
        "Size of volumes created without one",
        "the driver's own (loop and zfs: 1GiB, ebs and cinder: 10GiB)",
    )
    default_fs: _Filesystem = _setting(
        "ext4",
        f"Filesystem of volumes created without one: {', '.join(FILESYSTEMS)}; volumes of zfs are their own",
    )
    linger_s: _Seconds | None = _setting(
        None,
        "Seconds that a volume stays attached after its last unmount",
        "the driver's own (loop and zfs: 0, ebs and cinder: 5)",
    )
    slow_answer_s: _SomeSeconds = _setting(110, "Seconds to answer Create and Mount; Docker waits 120")
    answer_s: _SomeSeconds = _setting(50, "Seconds to answer everything else; Docker waits 60")
    mount_grace_s: _Seconds = _setting(
        60, "Seconds before an answered Mount may be checked by a trial release"
    )
    release_wait_s: _Seconds = _setting(
        20, "Seconds that a Mount waits for another host to detach the volume"
    )
    takeover: Annotated[TakeoverPolicy, BeforeValidator(_fold_case)] = _setting(
        TakeoverPolicy.PROOF,
        "When a Mount may take over a volume from a host that does not detach it: "
        "proof, fence or never; see docs/safety.md",
    )
    control_socket: _Path | None = _setting(
        None,
        "Path of the control API's socket",
        f"{DEFAULT_CONTROL_SOCKET}; control.sock in the state directory if that is another one, "
        "and in the managed plugin",
    )
    control_group: str = _setting(
        "", "Group whose members may use that socket, by name or number", "none: root only"
    )
    control_listen: _Listen = _setting(
        "", "HOST:PORT on which the control API listens with TLS as well; see docs/api.md", "none"
    )
    control_names: str = _setting(
        "",
        "Names and addresses by which clients call it there, with commas between them",
        "the host of control_listen",
    )
    control_cert: _Path | None = _setting(
        None, "File with its certificate, and those between that and the root", "none"
    )
    control_key: _Path | None = _setting(None, "File with the certificate's key", "none")
    control_client_ca: _Path | None = _setting(
        None, "File with the certificates of those who sign clients' certificates", "none"
    )
    control_access: _Path | None = _setting(None, "File that lists who may use it there", "none")
    cluster_address: _Listen = _setting(
        "", "HOST:PORT at which other nodes of the cluster reach this one; see docs/cluster.md", "none"
    )
    cluster_etcd: _Urls = _setting(
        "",
        "URLs of etcd, with commas between them",
        "what the node had that admitted this one; none for the nodes listed in the file",
    )
    cluster_etcd_user: str = _setting("", "User of etcd", "none")
    cluster_etcd_password_file: _Path | None = _setting(None, "File with the user's password", "none")
    cluster_etcd_ca: _Path | None = _setting(
        None, "File with the certificates of those who sign etcd's certificates", "those of the system"
    )
    cluster_etcd_cert: _Path | None = _setting(None, "File with a certificate that etcd asks for", "none")
    cluster_etcd_key: _Path | None = _setting(None, "File with the certificate's key", "none")
    log_level: Annotated[_LogLevel, BeforeValidator(_fold_case)] = _setting(
        "info", "debug, info, warning or error"
    )
    log_format: Annotated[_LogFormat, BeforeValidator(_fold_case)] = _setting(
        "text", "Lines of the log as text (logfmt) or json"
    )
    backends: dict[_BackendName, BackendTable] = Field(default_factory=dict)
    nodes: dict[_NodeName, NodeTable] = Field(default_factory=dict)
    profiles: dict[str, dict[str, _OptionValue]] = Field(default_factory=dict)
    _names: Mapping[str, str] = PrivateAttr({})  # setting to its flag or variable; the others are in the file
    _file: str = PrivateAttr("")

    @property
    def file(self) -> str:
        """Return the path of the configuration file, "" if there is none."""
        return self._file

    def place(self, setting: str, *below: object) -> str:
        """Return where a setting, or a key of its table, was given, for errors."""
        if setting in self._names:
            return self._names[setting]
        key = ".".join(str(part) for part in (setting, *below))
        return f"{key} in {self._file}" if self._file else key

    @property
    def configured_backends(self) -> Mapping[str, BackendTable]:
        """Return the backends; with none configured, one named like its driver: `backend`, or loop."""
        driver = self.backend or "loop"
        return self.backends or {driver: BackendTable(driver=driver)}

    @property
    def default_backend(self) -> str:
        """Return the name of the backend for volumes created without `-o backend=`."""
        return self.backend or next(iter(self.configured_backends))

    @property
    def control_address(self) -> tuple[str, int]:
        """Return host and port of `control_listen`."""
        host, _, port = self.control_listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def resolved_control_names(self) -> frozenset[str]:
        """Return the names and addresses, in lower case, by which clients may call the control API on TCP."""
        named = {name.strip().strip("[]").lower() for name in self.control_names.split(",")} - {""}
        return frozenset(named or {self.control_address[0].lower()} - EVERY_ADDRESS)

    def resolved_control_socket(self, *, is_managed: bool) -> Path:
        """Return the control API's socket; of a managed plugin the host sees the state directory."""
        is_default = self.state_dir == DEFAULT_STATE_DIR and not is_managed
        return self.control_socket or (
            DEFAULT_CONTROL_SOCKET if is_default else self.state_dir / "control.sock"
        )

    @property
    def resolved_mount_root(self) -> Path:
        """Return the directory below which volumes are mounted."""
        return self.mount_root or self.state_dir / "mounts"

    @property
    def resolved_state_marker(self) -> Path | None:
        """Return the path of the copy of the state id, or None for no copy."""
        is_default = self.state_dir == DEFAULT_STATE_DIR
        return self.state_marker or (DEFAULT_STATE_MARKER if is_default else None)


def default_text(setting: str) -> str:
    """Return the default of a setting as `--help` shows it."""
    extra: Any = Settings.model_fields[setting].json_schema_extra
    return str(extra["shown"])
