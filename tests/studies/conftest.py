"""What tests of several studies begin with."""

import pytest

from livseg_lib.runs import RunFolders


@pytest.fixture
def folders(tmp_path) -> RunFolders:
    """Of a run whose tables are still to be written."""
    folders = RunFolders(tmp_path, "run")
    folders.tables.mkdir(parents=True)
    return folders
