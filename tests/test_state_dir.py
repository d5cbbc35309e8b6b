import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from volplug.errors import AlreadyRunning, HostError, StateUnusable
from volplug.state_dir import check_state_id, close_mount_root, lock_state_dir

LOCK_AND_WAIT = """
import pathlib, sys
from volplug.state_dir import lock_state_dir
descriptor = lock_state_dir(pathlib.Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "state-id"


@pytest.fixture
def other_process(state: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the directory locked until its input ends."""
    argv = [sys.executable, "-c", LOCK_AND_WAIT, str(state)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process


# One process


def test_a_second_process_is_refused_with_the_pid_of_the_first(
    state: Path, other_process: subprocess.Popen[str]
) -> None:
    with pytest.raises(AlreadyRunning) as refused:
        lock_state_dir(state)
    assert refused.value.cause == f"the state directory {state} is in use by process {other_process.pid}"
    assert str(refused.value).endswith("Stop that process, or give this one another VOLPLUG_STATE_DIR.")


def test_the_directory_is_free_once_its_process_has_ended(
    state: Path, other_process: subprocess.Popen[str]
) -> None:
    other_process.kill()
    other_process.wait()
    descriptor = lock_state_dir(state)
    assert (state / "lock").read_text() == f"{os.getpid()}\n"
    os.close(descriptor)


def test_the_lock_ends_with_its_descriptor_and_children_do_not_inherit_it(state: Path) -> None:
    descriptor = lock_state_dir(state)
    assert not os.get_inheritable(descriptor)
    with pytest.raises(AlreadyRunning):
        lock_state_dir(state)
    os.close(descriptor)
    os.close(lock_state_dir(state))


def test_the_directory_is_made_for_root_only(state: Path) -> None:
    os.close(lock_state_dir(state / "deep" / "down"))
    assert (state / "deep" / "down").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError) as refused:
        lock_state_dir(tmp_path / "file" / "state")
    assert str(refused.value) == f"the state directory {tmp_path}/file/state cannot be used: Not a directory."


# The right directory


def use(state: Path, marker: Path | None) -> str:
    state.mkdir(exist_ok=True)
    was_there = marker is not None and marker.exists()
    assert check_state_id(state, marker) == was_there
    return (state / "state-id").read_text()


def test_the_first_use_marks_both_sides_alike(state: Path, marker: Path) -> None:
    state_id = use(state, marker)
    assert len(state_id.strip()) == 32
    assert marker.read_text() == state_id


def test_the_next_use_changes_nothing(state: Path, marker: Path) -> None:
    assert use(state, marker) == use(state, marker)


def test_without_a_marker_only_the_directory_has_an_id(state: Path) -> None:
    assert use(state, None) == use(state, None)


def test_a_marker_set_later_is_written_with_the_directorys_id(state: Path, marker: Path) -> None:
    assert use(state, None) == use(state, marker) == marker.read_text()


def test_a_crash_between_the_two_writes_is_a_first_use_again(state: Path, marker: Path) -> None:
    state_id = use(state, marker)
    marker.unlink()
    assert use(state, marker) == state_id == marker.read_text()


@pytest.mark.parametrize("is_empty", [True, False])
def test_an_other_directory_than_before_is_refused_untouched(
    state: Path, marker: Path, tmp_path: Path, is_empty: bool
) -> None:
    before = use(state, marker).strip()
    other = tmp_path / "other"
    found = "has no id" if is_empty else f"has id {use(other, None)[:8]}"
    other.mkdir(exist_ok=True)
    files = {path.name: path.read_bytes() for path in other.iterdir()}
    with pytest.raises(StateUnusable) as refused:
        check_state_id(other, marker)
    assert refused.value.cause == (
        f"state directory {other} is not the one used before: it {found}, that one had {before[:8]}"
    )
    assert refused.value.remedy == (
        f"Is its disk not mounted, or a setting reverted? To use it all the same, remove {marker}"
    )
    assert {path.name: path.read_bytes() for path in other.iterdir()} == files
    assert marker.read_text().strip() == before


def test_removing_the_marker_is_the_way_to_use_another_directory(
    state: Path, marker: Path, tmp_path: Path
) -> None:
    use(state, marker)
    marker.unlink()
    assert use(tmp_path / "other", marker) == marker.read_text()


def test_a_marker_that_cannot_be_written_is_reported(state: Path, tmp_path: Path) -> None:
    marker = tmp_path / "state-id-copy"
    marker.with_name(".state-id-copy.new").mkdir()
    with pytest.raises(StateUnusable) as refused:
        use(state, marker)
    assert str(refused.value) == f"{marker} cannot be written: Is a directory."


def test_a_marker_that_cannot_be_read_is_not_taken_for_none(state: Path, marker: Path) -> None:
    use(state, marker)
    marker.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StateUnusable) as refused:
        use(state, marker)
    assert refused.value.cause.startswith(f"{marker} cannot be read: ")
    assert marker.read_bytes() == b"\xff\xfe\x00"


def test_an_id_that_was_cut_is_not_the_id(state: Path, marker: Path) -> None:
    state_id = use(state, marker)
    (state / "state-id").write_text(state_id[:10])
    with pytest.raises(StateUnusable):
        use(state, marker)


# Other users; tests/served/test_other_users.py has the rest

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def mode_of(directory: Path) -> int:
    return stat.S_IMODE(directory.stat().st_mode)


@pytest.mark.parametrize("is_marked", [True, False])
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o730, 0o702, 0o755, 0o711, 0o740])
def test_in_a_state_directory_that_is_refused_nothing_is_made_and_no_link_is_followed(
    state: Path, tmp_path: Path, mode: int, is_marked: bool
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    if is_marked:
        use(state, None)
    state.mkdir(exist_ok=True)
    (state / "lock").symlink_to(victim)
    before = sorted(os.listdir(state))
    state.chmod(mode)
    is_closed = is_marked and not mode & 0o022
    with pytest.raises(HostError) as refused:
        lock_state_dir(state)
    if is_closed:
        assert refused.value.cause.startswith(f"the state directory {state} cannot be used: Too many levels")
    else:
        assert str(refused.value) == (
            f"the state directory {state} is open to other users of this host (mode {mode:04o}). "
            f"chmod 0700 {state}."
        )
    assert mode_of(state) == (0o700 if is_closed else mode)
    assert victim.read_text() == "kept"
    assert sorted(os.listdir(state)) == before


@AS_ROOT
@pytest.mark.parametrize(
    "name", ["lock", "state-id", "state.sqlite", "state.sqlite-wal", "backends", "mounts"]
)
def test_what_another_user_left_in_volplugs_place_is_refused(state: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    state.mkdir(mode=0o700)
    (state / "config.toml").touch()
    (state / name).symlink_to(victim)
    for path in (state / "config.toml", state / name):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    with pytest.raises(HostError, match=f"{state / name} belongs to user 65534. Move it away."):
        lock_state_dir(state)
    (state / name).unlink()
    os.close(lock_state_dir(state))
    assert victim.read_text() == "kept"


@pytest.mark.parametrize(
    ("root", "marker", "held", "is_ours"),
    [
        ("state/mounts", None, [], True),
        ("run/mounts", "run/state-id", [], True),
        ("run/mounts", "run/state-id", ["x"], True),
        ("run/mounts", None, ["db", "web"], True),
        ("run/mounts", None, ["db", "x"], False),
        ("run/mounts", None, [], False),
        ("run/mounts", "state-id", [], False),
        ("run/deep/mounts", "run/state-id", [], False),
    ],
)
@pytest.mark.parametrize("mode", [0o755, 0o711, 0o777, 0o720])
def test_a_mount_root_is_closed_only_if_volplug_made_it_and_others_do_not_write_to_it(
    tmp_path: Path, root: str, marker: str | None, held: list[str], is_ours: bool, mode: int
) -> None:
    mount_root = tmp_path / root
    for name in ("", *held):
        (mount_root / name).mkdir(parents=True)
    mount_root.chmod(mode)
    arguments = (mount_root, tmp_path / "state", tmp_path / marker if marker else None, {"db", "web", "idle"})
    if is_ours and mode & 0o022 == 0:
        close_mount_root(*arguments)
        assert mode_of(mount_root) == 0o700
        return
    with pytest.raises(HostError) as refused:
        close_mount_root(*arguments)
    assert str(refused.value) == (
        f"the mount root {mount_root} is open to other users of this host (mode {mode:04o}). "
        f"chmod 0700 {mount_root}."
    )
    assert mode_of(mount_root) == mode


def test_a_link_in_the_state_directory_does_not_make_what_it_leads_to_volplugs_own(
    state: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    state.mkdir()
    (state / "mounts").symlink_to(elsewhere)
    elsewhere.chmod(0o755)
    with pytest.raises(HostError, match="is open to other users"):
        close_mount_root(state / "mounts", state, None, ())
    assert mode_of(elsewhere) == 0o755
    elsewhere.chmod(0o700)
    close_mount_root(state / "mounts", state, None, ())


def test_a_directory_is_ours_from_the_start_if_its_parents_are_a_link(state: Path, tmp_path: Path) -> None:
    state.mkdir()
    (tmp_path / "link").symlink_to(state)
    mount_root = state / "mounts"
    mount_root.mkdir()
    mount_root.chmod(0o755)
    close_mount_root(tmp_path / "link" / "mounts", tmp_path / "link", None, ())
    assert mode_of(mount_root) == 0o700


def test_a_mount_root_that_cannot_be_made_is_reported(state: Path) -> None:
    state.write_text("not a directory")
    for mount_root in (state, state / "mnt"):
        with pytest.raises(HostError, match=f"the mount root {mount_root} cannot be made: "):
            close_mount_root(mount_root, state, None, ())


@AS_ROOT
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_of_another_user_is_refused(state: Path, mode: int) -> None:
    state.mkdir(mode=mode)
    os.chown(state, 65534, 65534)
    with pytest.raises(HostError, match=f"the mount root {state} belongs to user 65534. chown 0 {state}"):
        close_mount_root(state, state.parent / "elsewhere", None, ())
    with pytest.raises(
        HostError, match=f"the state directory {state} belongs to user 65534. chown 0 {state}"
    ):
        lock_state_dir(state)
    assert (state.stat().st_uid, list(state.iterdir())) == (65534, [])
