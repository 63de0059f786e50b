"""The test images of a data set without a test part: the same ones whatever else is in it."""

import unicodedata

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nuat.data.held_out import SHARE, are_held_out

names = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), unique=True, max_size=12)


@given(names, names, st.integers(0, 2**31), st.randoms())
def test_adding_or_removing_images_moves_no_other_image(some, others, seed, shuffle):
    before = dict(zip(some, are_held_out(some, seed).tolist(), strict=True))
    more = list(dict.fromkeys(some + others))
    shuffle.shuffle(more)
    after = dict(zip(more, are_held_out(more, seed).tolist(), strict=True))
    assert {name: after[name] for name in some} == before


def test_about_a_fifth_of_every_class_is_held_out_and_the_seed_chooses_which():
    files = [f"{name}/{i * 7919 % 2000:x}q.jpg" for name in ("cat", "dog", "emu") for i in range(2000)]
    held_out = are_held_out(files, 0)
    for start in (0, 2000, 4000):
        of_class = held_out[start : start + 2000].sum()
        assert abs(of_class - 2000 * SHARE) < 5 * np.sqrt(2000 * SHARE * (1 - SHARE))
    other = are_held_out(files, 1)
    assert 0.1 < (held_out & other).sum() / held_out.sum() < 0.3, "two seeds choose independently"


@given(
    st.text(st.sampled_from("ab /_5"), max_size=5),
    st.integers(0, 10**12),
    st.integers(5, 200),
    st.integers(0, 2**31),
    st.integers(0, 6),
)
def test_of_numbered_files_a_fifth_is_held_out_but_for_an_image_or_two(prefix, start, n, seed, digits):
    files = [f"{prefix}-{i:0{digits}d}.jpg" for i in range(start, start + n)]
    assert abs(are_held_out(files, seed).sum() - n * SHARE) < 2.5


def test_the_choice_is_the_same_on_every_machine_and_in_every_version():
    """A file name in decomposed letters, as macOS writes them, is the same name."""
    files = [f"cat/{i}.jpg" for i in range(20)]
    assert np.flatnonzero(are_held_out(files, 0)).tolist() == [3, 11, 16, 19]
    name = "caf\u00e9/\u00fc.jpg"
    draws = {bool(are_held_out([text], seed)[0]) for seed in range(9) for text in (name,)}
    assert draws == {True, False}
    for seed in range(9):
        assert are_held_out([unicodedata.normalize("NFD", name)], seed) == are_held_out([name], seed)
