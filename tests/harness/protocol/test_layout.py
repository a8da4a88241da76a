"""How tensors lie in the state blob."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.protocol.buffers import ALIGNMENT, state_bytes, state_views

DTYPES = st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
SHAPE = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@given(st.dictionaries(st.text(max_size=5), st.tuples(SHAPE, DTYPES), max_size=6))
def test_views_are_apart_aligned_and_hold_their_values(wanted):
    tensors = {name: torch.ones(shape, dtype=dtype) for name, (shape, dtype) in wanted.items()}
    blob = torch.zeros(state_bytes(tensors), dtype=torch.uint8)
    views = state_views(tensors, blob)
    for name, view in views.items():
        assert (view.shape, view.dtype) == (tensors[name].shape, tensors[name].dtype)
        if view.numel():
            assert (view.data_ptr() - blob.data_ptr()) % ALIGNMENT == 0
        view.copy_(tensors[name])
    assert all(torch.equal(views[name], tensors[name]) for name in tensors)
