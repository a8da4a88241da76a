"""A script in the style of the public ones, small enough for a CPU: reads shards, trains, packs, scores itself.

It finds its data, tokenizer, time and seed in the variables that ``torchrun`` and the public scripts use.
"""

import glob
import io
import math
import os
import time
import zlib

import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F
from torch import nn


class Hyperparameters:
    train_files = os.path.join(os.environ.get("DATA_PATH", "./data"), "fineweb_train_*.bin")
    val_files = os.path.join(os.environ.get("DATA_PATH", "./data"), "fineweb_val_*.bin")
    tokenizer_path = os.environ.get("TOKENIZER_PATH", "./tokenizer.model")
    run_id = os.environ.get("RUN_ID", "run")
    seed = int(os.environ.get("SEED", 1337))
    vocab_size = int(os.environ.get("VOCAB_SIZE", 1024))
    iterations = int(os.environ.get("ITERATIONS", 200))
    max_wallclock_seconds = float(os.environ.get("MAX_WALLCLOCK_SECONDS", 600))
    model_dim, seq_len, batch = 32, 128, 8


def load_shards(pattern):
    parts = []
    for name in sorted(glob.glob(pattern)):
        head = np.fromfile(name, dtype="<i4", count=256)
        assert (head[0], head[1]) == (20240520, 1), name
        parts.append(np.fromfile(name, dtype="<u2", count=int(head[2]), offset=1024))
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def token_bytes(path, vocab_size):
    processor = spm.SentencePieceProcessor(model_file=path)
    sizes = torch.zeros(vocab_size)
    for token in range(processor.vocab_size()):
        if processor.is_byte(token):
            sizes[token] = 1
        elif not processor.is_control(token) and not processor.is_unknown(token):
            sizes[token] = len(processor.id_to_piece(token).replace("\u2581", " ").encode())
    return sizes


class GPT(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.wte = nn.Embedding(args.vocab_size, args.model_dim)
        self.mix = nn.Linear(args.model_dim, args.model_dim)

    def forward(self, x):
        return torch.tanh(self.mix(self.wte(x))) @ self.wte.weight.T


def main():
    args = Hyperparameters()
    os.makedirs("logs", exist_ok=True)

    def log0(text):
        print(text)
        with open(f"logs/{args.run_id}.txt", "a") as file:
            print(text, file=file)

    torch.manual_seed(args.seed)
    train_tokens, val_tokens = load_shards(args.train_files), load_shards(args.val_files)
    log0(f"seed:{args.seed}")
    model = GPT(args)
    log0(f"model_params:{sum(p.numel() for p in model.parameters())}")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    start, step = time.perf_counter(), 0
    while step < args.iterations and time.perf_counter() - start < args.max_wallclock_seconds:
        at = torch.randint(0, len(train_tokens) - args.seq_len - 1, (args.batch,))
        window = torch.stack([train_tokens[i : i + args.seq_len + 1] for i in at])
        loss = F.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        spent = 1000 * (time.perf_counter() - start)
        log0(f"step:{step}/{args.iterations} train_loss:{loss.item():.4f} train_time:{spent:.0f}ms")

    buffer = io.BytesIO()
    torch.save({name: tensor.half() for name, tensor in model.state_dict().items()}, buffer)
    blob = zlib.compress(buffer.getvalue(), 9)
    with open("final_model.int8.ptz", "wb") as file:
        file.write(blob)
    log0(f"Serialized model int8+zlib: {len(blob)} bytes")
    log0(f"Total submission size int8+zlib: {len(blob) + os.path.getsize(__file__)} bytes")

    sizes, began = token_bytes(args.tokenizer_path, args.vocab_size), time.perf_counter()
    nats, n_bytes = 0.0, 0.0
    with torch.inference_mode():
        for at in range(0, len(val_tokens) - 1, 4096):
            x, y = val_tokens[at : at + 4097][:-1], val_tokens[at : at + 4097][1:]
            nats += F.cross_entropy(model(x[None])[0], y, reduction="sum").item()
            n_bytes += sizes[y].sum().item()
    val_loss, took = nats / (len(val_tokens) - 1), 1000 * (time.perf_counter() - began)
    val_bpb = nats / math.log(2) / n_bytes
    log0(f"final_int8_zlib_roundtrip val_loss:{val_loss:.4f} val_bpb:{val_bpb:.4f} eval_time:{took:.0f}ms")
    log0(f"final_int8_zlib_roundtrip_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")


if __name__ == "__main__":
    main()
