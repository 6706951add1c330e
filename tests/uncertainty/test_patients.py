import numpy as np

from koa_lightning.uncertainty import patients


def test_a_knee_without_a_patient_is_one_of_its_own():
    group = patients.groups(["b", "", "a", "b", "", None])
    assert group[0] == group[3]
    assert len(set(group.tolist())) == 5


def test_no_patient_is_in_two_folds_and_all_folds_are_used():
    group = patients.groups([f"{number // 2}" for number in range(100)])
    fold = patients.folds(group)
    for number in np.unique(group):
        assert len(set(fold[group == number])) == 1
    assert sorted(set(fold)) == [0, 1, 2, 3, 4]


def test_patients_weigh_alike():
    group = np.array([0, 0, 0, 1, 2, 2])
    assert np.allclose(patients.shares(group), [1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 6, 1 / 6])
