import torch

from harness.protocol.container import read_container
from harness.protocol.serve import serve_predictor

from .visit import visit


class Bigram:
    """Counts of neighbouring tokens from training and from scored chunks."""

    chunk_tokens = 256
    slab_rows = 128
    logits_dtype = torch.float32

    def __init__(self, counts):
        self.counts = counts

    def state(self):
        return {"counts": self.counts}

    def bind_state(self, buffers):
        self.counts = buffers["counts"]

    def load_state(self):
        pass

    def warm_up(self):
        pass

    def score(self, inputs):
        visit("score", inputs)
        pairs = self.counts[inputs] + 0.1
        yield from (pairs / pairs.sum(1, keepdim=True)).log().split(self.slab_rows)

    def adapt(self, inputs, targets):
        self.counts.index_put_((inputs, targets), torch.ones(()), accumulate=True)


def build(context):
    visit("build", context)
    counts = read_container(context.model_file.read_bytes(), max_unpacked_bytes=1_000_000)["counts"]
    table = torch.frombuffer(bytearray(counts), dtype=torch.int32).float()
    return Bigram(table.view(context.vocab_size, context.vocab_size))


if __name__ == "__main__":
    serve_predictor(build)
