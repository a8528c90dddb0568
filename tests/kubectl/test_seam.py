"""Where a log that was cut is taken up again."""

from __future__ import annotations

from rljob_cli.kubectl.seam import Seam

LOG = [
    "2026-01-01T00:00:07.900000000Z old",
    "2026-01-01T00:00:09.100000000Z same",
    "2026-01-01T00:00:09.100000000Z same",
    "2026-01-01T00:00:10.000000001Z of the other stream",
    "2026-01-01T00:00:09.999999999Z late",
    "2026-01-01T00:00:10.500000000Z two words",
    "2026-01-01T00:00:12.000000000Z last",
]


def read(seam: Seam, log: list[str]) -> list[str]:
    """What a kubelet gives from the seam on, as far as it is new."""
    return list(seam.new([line for line in log if line[:19] >= (seam.since or "")[:19]]))


def test_wherever_a_log_is_cut_each_line_is_shown_once() -> None:
    whole = read(Seam(), LOG)
    assert whole[0] == "old"
    for cut in range(len(LOG) + 1):
        for again in range(cut, len(LOG) + 1):
            seam = Seam()
            assert [*read(seam, LOG[:cut]), *read(seam, LOG[:again]), *read(seam, LOG)] == whole, (cut, again)


def test_only_the_lines_around_the_seam_are_read_again() -> None:
    seam = Seam()
    assert seam.since is None
    read(seam, LOG)
    assert seam.since == "2026-01-01T00:00:11Z"


def test_a_line_without_a_time_is_shown_as_it_is_and_once() -> None:
    seam = Seam()
    excuse = "unable to retrieve container logs for containerd://1"
    assert read(seam, [excuse]) == [excuse]
    assert list(seam.new([excuse])) == []
