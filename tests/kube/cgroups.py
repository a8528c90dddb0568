"""Control groups of a cluster: one for all of it, and in that one a node and one for programs. Versions 1 and 2."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NEEDED = "+cpuset +cpu +io +memory +pids"
"""What a kubelet wants to control, on version 2."""
SHARE = 8
"""Of a busy machine, as a multiple of what any one session of processes has. Pods, of which there are a dozen, would
otherwise get as much together as one of the many processes that other tests start beside them; and a kubelet, were it
not in the group, so little beside them that its node counts as lost."""


def is_version_2() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def folders(group: str) -> list[Path]:
    """The folders of `group`, such as /rljob0: one in each hierarchy."""
    if is_version_2():
        return [ROOT / group.lstrip("/")]
    return [
        each / group.lstrip("/") for each in sorted(ROOT.iterdir()) if each.is_dir() and not each.is_symlink()
    ]


def create(group: str) -> None:
    """Make `group`, ready to have children with processes."""
    for folder in folders(group):
        _make(folder)
        if is_version_2():
            for each in (folder.parent, folder):
                (each / "cgroup.subtree_control").write_text(NEEDED)


def join(group: str) -> None:
    """Make `group`, and move this process there: all that it starts from now on is in it too."""
    for folder in folders(group):
        _make(folder)
        (folder / "cgroup.procs").write_text("0")


def _make(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not is_version_2() and (folder / name).exists():  # version 1 starts with none
            (folder / name).write_text((folder.parent / name).read_text())
    for name, usual in (("cpu.weight", 100), ("cpu.shares", 1024)):
        if (folder / name).exists():
            (folder / name).write_text(str(SHARE * usual))


def remove(folder: Path) -> None:
    """Remove a group and all in it.

    Raises `OSError` while a process is left in one of them.
    """
    if folder.exists():
        for child in folder.iterdir():
            if child.is_dir():
                remove(child)
        folder.rmdir()
