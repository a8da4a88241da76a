"""How often evaluation compiles: counted by the compiler itself, with a back end that runs the graphs as they are."""

import small_models
import torch
from torch._dynamo.utils import counters

from harness.protocol.predictor import EvalContext
from submission.eval.predictor import HybridPredictor

COMPILE = torch.compile


def eagerly(function, **options):
    return COMPILE(function, backend="eager", **options)


def graphs_of_warm_up(stage: str, monkeypatch, **changes: object) -> int:
    """Graphs after a warm-up; further chunks and the tail must need no more."""
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
    for start, end in ((0, 128), (128, 256), (256, 320)):
        with torch.no_grad():
            assert sum(map(len, one.score(tokens[start:end]))) == end - start
        one.adapt(tokens[start:end], tokens[start + 1 : end + 1])
    assert int(counters["stats"]["unique_graphs"]) == graphs, "a chunk after the warm-up compiled"
    return graphs


def test_steps_smaller_than_a_chunk_need_one_graph_without_and_one_with_gradients(monkeypatch) -> None:
    changes = {"eval_mode": "overlap", "eval_overlap": 4, "eval_stride": 8, "ttt_batch_windows": 2}
    assert graphs_of_warm_up("final", monkeypatch, **changes) == 2
    assert graphs_of_warm_up("packed", monkeypatch, **changes) == 1


def test_full_batches_need_one_more_for_the_probe(monkeypatch) -> None:
    assert graphs_of_warm_up("final", monkeypatch, eval_stride=8, eval_overlap=0, ttt_batch_windows=0) == 3
