"""What the app keeps and forgets: nobody sees another's folder, nothing outlives its time."""

from __future__ import annotations

import os
import stat

from livseg_lib.application.visits import Visits


def test_each_visit_has_a_folder_of_its_own_that_others_cannot_read():
    visits = Visits()
    anna, bela = visits.begin("anna"), visits.begin("bela")
    assert anna != bela
    assert visits.folder("anna") == anna and visits.folder("carl") is None
    assert stat.S_IMODE(visits.root.stat().st_mode) == 0o700
    visits.close()


def test_a_new_result_replaces_the_former_one():
    visits = Visits()
    first = visits.begin("anna")
    (first / "scan.npy").write_bytes(b"1")
    second = visits.begin("anna")
    assert not first.exists() and list(second.iterdir()) == []
    visits.close()


def test_what_is_old_or_left_is_deleted():
    visits = Visits()
    old, new, left = visits.begin("old"), visits.begin("new"), visits.begin("left")
    os.utime(old, (0, 0))
    visits.forget_old(seconds=60)
    visits.forget("left")
    visits.forget("left")  # a tab may be closed twice
    assert [path.exists() for path in (old, new, left)] == [False, True, False]
    assert visits.folder("old") is None and visits.folder("left") is None
    visits.close()
    assert not visits.root.exists()
