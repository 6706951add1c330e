import pytest
import torch

from koa_lightning.checkpoint.tensors import SHOWN, shown, wrong_tensor, wrong_tensors


@pytest.mark.parametrize(
    ("tensor", "wrong"),
    [
        (torch.ones(2), ""),
        (torch.ones(2, dtype=torch.bfloat16), ""),
        (torch.ones(2, dtype=torch.complex64), "of type complex64"),
        (torch.eye(2).to_sparse(), "not a plain tensor"),
        (torch.ones(2, device="meta"), "not a plain tensor"),
        (torch.ones(1).expand(1000), "of shape (1000,), more numbers than the file holds"),
    ],
)
def test_a_tensor_holds_plain_numbers_of_its_own(tensor, wrong):
    assert wrong_tensor(tensor) == wrong


@pytest.mark.parametrize(
    ("state", "wrong"),
    [
        ({"a": torch.ones(1)}, ""),
        ([torch.ones(1)], "its state_dict is not a dict of tensors"),
        ({"a": 1}, "its state_dict is not a dict of tensors"),
        ({1: torch.ones(1)}, "its state_dict is not a dict of tensors"),
        ({"a\nb": torch.ones(1, dtype=torch.complex64)}, r"in its state_dict, a\nb is of type complex64"),
    ],
)
def test_the_first_wrong_weight_is_named(state, wrong):
    assert wrong_tensors(state) == wrong


def test_what_is_shown_is_short_and_has_no_control_character():
    assert shown("a\x1b[31m") == r"'a\x1b[31m'"
    assert shown({"a": [1, 2]}) == "{'a': [1, 2]}"
    assert len(shown("x" * 500)) == SHOWN and shown("x" * 500).endswith("...")
