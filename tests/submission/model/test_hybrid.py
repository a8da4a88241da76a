"""The whole model: size and shapes of the reference configuration, causality."""

import pytest
import torch
from small_models import lively_model, small_config

from submission.config import load_config
from submission.model.hybrid import Hybrid
from submission.model.mamba3 import in_proj_split


@pytest.fixture(scope="module")
def reference():
    return load_config({"RECIPE": "pr1890"}, "non_record_16mb")


def test_shapes_of_the_reference_configuration(reference):
    with torch.device("meta"):
        model = Hybrid(reference)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes.pop("embedding.weight") == (8192, 512)
    assert shapes.pop("skip_weights") == (3, 512)
    common = {
        "mix": (2, 512), "mixer_scale": (512,), "mlp_scale": (512,),
        "mlp.fc.weight": (1536, 512), "mlp.proj.weight": (512, 1536),
    }  # fmt: skip
    attention = {
        "mixer.q.weight": (512, 512), "mixer.k.weight": (256, 512), "mixer.v.weight": (256, 512),
        "mixer.out.weight": (512, 512), "mixer.q_gain": (8,),
    }  # fmt: skip
    mamba = {
        "mixer.in_proj.weight": (2240, 512), "mixer.out_proj.weight": (512, 1024), "mixer.dt_bias": (16,),
        "mixer.D": (16,), "mixer.B_bias": (16, 1, 64), "mixer.C_bias": (16, 1, 64), "mixer.B_norm.weight": (64,),
        "mixer.C_norm.weight": (64,),
    }  # fmt: skip
    for index in range(7):
        wanted = common | (attention if index in (2, 5) else mamba)
        found = {name.split(".", 2)[2]: shape for name, shape in shapes.items() if name.startswith(f"blocks.{index}.")}
        assert found == wanted, index
    assert all(name.startswith("blocks.") for name in shapes)


def test_the_split_of_in_proj_follows_from_the_configuration(reference):
    sizes = {role: rows.stop - rows.start for role, rows in in_proj_split(reference).items()}
    assert sizes == {
        "z": 1024, "x": 1024, "B": 64, "C": 64, "dd_dt": 16, "dd_A": 16, "trap": 16, "angles": 16,
    }  # fmt: skip
    assert sum(sizes.values()) == 2240
    assert [rows.start for rows in in_proj_split(reference).values()] == [0, 1024, 2048, 2112, 2176, 2192, 2208, 2224]


@pytest.mark.parametrize("attention_layers", [0, 1, 2])
def test_one_future_token_changes_nothing_before_it(attention_layers):
    """Bit by bit, for each position of the sequence."""
    model = lively_model(small_config(num_attn_layers=attention_layers))
    tokens = torch.randint(64, (2, 21), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = model(tokens)
        for t in range(1, 21):
            changed = tokens.clone()
            changed[:, t] = (changed[:, t] + 1) % 64
            after = model(changed)
            assert torch.equal(after[:, :t], before[:, :t]), t
            assert not torch.equal(after[:, t], before[:, t]), t


def test_logits_stay_under_the_soft_cap():
    config = small_config(logit_softcap=5.0)
    model = lively_model(config)
    with torch.no_grad():
        model.embedding.weight.mul_(100)
        assert model(torch.randint(64, (1, 16))).abs().max() <= 5.0
