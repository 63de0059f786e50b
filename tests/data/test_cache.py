"""Cache of data that were read."""

import gzip

import numpy as np
import pytest

from nuat.data.cache import read_cache, uncompressed, write_cache
from nuat.errors import InputError


def test_arrays_are_read_as_they_were_written(tmp_path):
    write_cache(tmp_path / "cache" / "a.npz", x=np.arange(3))
    assert read_cache(tmp_path / "cache" / "a.npz")["x"].tolist() == [0, 1, 2]


def test_a_copy_that_cannot_be_written_is_one_line_with_the_way_on(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(bytes(2000))
    with pytest.raises(InputError, match=r"could not be uncompressed into .*another --data.cache"):
        uncompressed(tmp_path / "a.tar.gz", "1", tmp_path / "file")


def test_a_cache_that_cannot_be_written_is_only_a_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(RuntimeWarning, match=f"what was read could not be kept in {tmp_path / 'file'}"):
        write_cache(tmp_path / "file" / "a.npz", x=np.arange(3))
