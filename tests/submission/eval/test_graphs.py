"""How often evaluation compiles: counted by the compiler itself, with a back end that runs the graphs as they are."""

import small_models
import torch
from torch._dynamo.utils import counters

from harness.protocol.predictor import EvalContext
from submission.eval.predictor import FALLBACKS, LEVEL, HybridPredictor

COMPILE = torch.compile


def eagerly(function, **options):
    return COMPILE(function, backend="eager", **options)


def graphs_of_warm_up(stage: str, monkeypatch, **changes: object) -> int:
    """Graphs after a warm-up; further chunks, the tail, every level and the packed weights must need no more."""
    monkeypatch.setattr(torch, "compile", eagerly)
    config = small_models.small_config(
        num_layers=2, num_attn_layers=1, eval_seq_len=16, ttt_chunk_windows=8, eval_cache_slots=64, **changes
    )
    told = EvalContext(stage, None, None, 64, 1e9, 400, 0, 1)  # type: ignore[arg-type]
    one = HybridPredictor(small_models.lively_model(config).float(), config, told, compiled=True)
    one.bind_state({name: t.clone() for name, t in one.state().items()})
    torch._dynamo.reset()
    counters.clear()
    one.warm_up()
    graphs = int(counters["stats"]["unique_graphs"])
    tokens = torch.randint(64, (321,), generator=torch.Generator().manual_seed(1))
    weight = one.model.blocks[0].mlp.fc.weight
    for level, epochs in enumerate(one.levels):
        for start, end, broken in ((0, 128, False), (128, 256, True), (256, 320, False)):
            one.state()["control"][LEVEL] = level
            sound = weight[0, 0].item()
            weight.data[0, 0] = float("nan") if broken else sound
            with torch.no_grad():
                assert sum(map(len, one.score(tokens[start:end]))) == end - start
            weight.data[0, 0] = sound
            if stage == "final":
                one.adapt(tokens[start:end], tokens[start + 1 : end + 1])
            found = int(counters["stats"]["unique_graphs"])
            assert found == graphs, f"{epochs} epochs, broken: {broken}: compiled after the warm-up"
    assert int(one.state()["control"][FALLBACKS]) == len(one.levels)
    return graphs


def test_scoring_and_steps_smaller_than_a_chunk_share_one_graph(monkeypatch) -> None:
    changes = {"eval_mode": "overlap", "eval_overlap": 4, "ttt_batch_windows": 2}
    assert graphs_of_warm_up("final", monkeypatch, **changes) == 1
    assert graphs_of_warm_up("packed", monkeypatch, **changes) == 1


def test_full_batches_need_one_more_for_the_probe(monkeypatch) -> None:
    assert graphs_of_warm_up("final", monkeypatch, eval_mode="overlap", eval_overlap=4, ttt_batch_windows=0) == 2
