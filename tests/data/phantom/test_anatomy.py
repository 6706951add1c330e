import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from koa_lightning.data.phantom.anatomy import TRAITS, joint_space_width, sample_signs, sample_traits


def rng(number):
    return np.random.default_rng(number)


@given(source=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_joint_space_falls_and_no_sign_recedes_with_the_grade(source):
    traits = sample_traits(rng(source), rng(source + 1))
    signs = [sample_signs(grade, rng(source)) for grade in range(5)]
    widths = [joint_space_width(traits, s) for s in signs]
    assert (np.diff(widths) < 0).all()
    assert min(widths) > 0
    for name in ("osteophyte", "sclerosis", "deformity"):
        assert (np.diff([getattr(s, name) for s in signs]) >= 0).all()
    assert len({s.side for s in signs}) == 1


def test_neighbouring_grades_overlap_but_not_distant_ones():
    width = [[1 - sample_signs(g, rng(i)).narrowing for i in range(300)] for g in range(5)]
    assert min(width[0]) < max(width[1])
    assert min(width[1]) < max(width[2])
    assert min(width[0]) > max(width[3])


def test_both_knees_of_a_patient_share_their_anatomy():
    pairs = [(sample_traits(rng(i), rng(1000 + i)), sample_traits(rng(i), rng(2000 + i))) for i in range(200)]
    for name in ("half_width", "joint_space", "texture", "notch_depth", "brightness"):
        left, right = np.array([[a[name], b[name]] for a, b in pairs]).T
        assert np.corrcoef(left, right)[0, 1] > 0.7
        assert (left != right).all()
    assert set(pairs[0][0]) == set(TRAITS)
