"""A cache of scored tokens, mixed into the distribution: what followed the last tokens before (DESIGN.md).

A row may use tokens of its own chunk, up to its own; what is learnt from targets waits for ``learn``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import Config, cache_orders

RUNS, LEVELS, FLOOR = 8, 8, -6.0  # classes of a candidate: its run, and ln p in equal steps from FLOOR to 0
PRIOR, PRIOR_ROWS = 0.05, 10.0  # λ before anything is known, and how many rows that counts
LEAST, MOST = 1e-5, 0.995
CHECK, TOKEN, RUN, SECOND = range(4)  # a slot of the table; CHECK 0 is an empty one
BLOCK_ELEMENTS = 1 << 25  # logits that are widened at once


class Candidates(NamedTuple):
    """What one order offers for each row of a chunk, int64 (rows,): two tokens, -1 where there is none, and the run."""

    token: Tensor
    second: Tensor
    run: Tensor


class Used(NamedTuple):
    """One mixture as it was scored, (rows,): its class, -1 without a candidate; the candidate; its λ; its p before."""

    place: Tensor
    token: Tensor
    share: Tensor
    p: Tensor


class SuccessorCache:
    """Tables (orders, slots + 1, 4), int32, the last slot for waste; sums that give each λ; and the last tokens."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.orders = cache_orders(config)
        self._slots = config.eval_cache_slots
        self._table = torch.zeros(len(self.orders), self._slots + 1, 4, dtype=torch.int32, device=device)
        classes = (len(self.orders), 2, RUNS * LEVELS)
        self._explained = torch.full(classes, PRIOR * PRIOR_ROWS, dtype=torch.float64, device=device)
        self._seen = torch.full(classes, PRIOR_ROWS, dtype=torch.float64, device=device)
        self._recent = torch.full((self.orders[-1] - 1,), -1, device=device)  # -1: before the stream

    def state(self) -> dict[str, Tensor]:
        """All of it."""
        return {
            "cache/table": self._table,
            "cache/explained": self._explained,
            "cache/seen": self._seen,
            "cache/recent": self._recent,
        }

    def bind(self, buffers: Mapping[str, Tensor]) -> None:
        """Use these tensors from now on."""
        self._table, self._recent = buffers["cache/table"], buffers["cache/recent"]
        self._explained, self._seen = buffers["cache/explained"], buffers["cache/seen"]

    def candidates(self, inputs: Tensor) -> list[Candidates]:
        """What each order offers for the rows of ``inputs`` (rows,), each from tokens up to its own."""
        following = torch.cat((inputs[1:], inputs[:1]))  # the last row's is not known yet, and no row looks at it
        return [self._follow(index, inputs, following)[0] for index in range(len(self.orders))]

    def mix(self, logits: Tensor, offered: list[Candidates]) -> list[Used]:
        """Change ``logits`` (rows, V) in place; the offers are those of its rows. Says what was done, for ``learn``."""
        log_total = _log_total(logits)
        shares = (self._explained / self._seen).clamp(LEAST, MOST).float()
        used = []
        for index, one in enumerate(offered):
            for rank, tokens in ((1, one.second), (0, one.token)):
                there, at = tokens >= 0, tokens.clamp(min=0)[:, None]
                before = logits.gather(1, at)[:, 0].float()
                log_p = (before - log_total).clamp(max=0.0)
                level = ((log_p / -FLOOR + 1) * LEVELS).long().clamp(0, LEVELS - 1)
                place = one.run.clamp(max=RUNS - 1) * LEVELS + level
                share = torch.where(there, shares[index, rank][place], 0.0)
                after = torch.logaddexp(before, log_total + torch.log(share / (1 - share)))
                logits.scatter_(1, at, after[:, None].to(logits.dtype))
                log_total = log_total - torch.log1p(-share)
                used.append(Used(torch.where(there, place, -1), tokens, share, log_p.exp()))
        return used

    def learn(self, inputs: Tensor, targets: Tensor, used: list[Used]) -> None:
        """Take in a scored chunk: the sums behind each λ, then the tables. ``used``: of all rows, by ``mix``."""
        for number, one in enumerate(used):
            index, rank = number // 2, 1 - number % 2
            hit = (one.token == targets) & (one.place >= 0)
            explained = torch.where(hit, one.share / ((1 - one.share) * one.p + one.share), 0.0).double()
            place = one.place.clamp(min=0)
            self._explained[index, rank].scatter_add_(0, place, explained)
            self._seen[index, rank].scatter_add_(0, place, (one.place >= 0).double())
        for index in range(len(self.orders)):
            _, slots, entries = self._follow(index, inputs, targets)
            self._table[index].index_copy_(0, slots, entries)
        if len(self._recent):
            self._recent.copy_(torch.cat((self._recent, inputs))[-len(self._recent) :])

    def _follow(self, index: int, inputs: Tensor, following: Tensor) -> tuple[Candidates, Tensor, Tensor]:
        """Offers for each row; and the slots and entries to write once ``following`` (rows,) came behind the rows."""
        keys, place = self._keys(inputs, self.orders[index]).sort(stable=True)
        token = following[place]
        rows = torch.arange(len(keys), device=keys.device)
        slot, check = keys % self._slots, (keys // self._slots % 0x7FFFFFFF) + 1
        known = self._table[index, slot].long()
        valid = known[:, CHECK] == check
        known_token = torch.where(valid, known[:, TOKEN], -1)
        known_run = torch.where(valid, known[:, RUN], 0)
        known_second = torch.where(valid, known[:, SECOND], -1)
        # rows of one key stand together, in order of time; a run is a stretch of equal successors
        head = torch.ones_like(valid)
        head[1:] = keys[1:] != keys[:-1]
        turn = head.clone()
        turn[1:] |= token[1:] != token[:-1]
        first = torch.where(head, rows, 0).cummax(0)[0]
        start = torch.where(turn, rows, 0).cummax(0)[0]
        goes_on = (start == first) & (token[first] == known_token)
        run = rows - start + 1 + torch.where(goes_on, known_run, 0)
        second = torch.where(start > first, token[(start - 1).clamp(min=0)], known_token)
        second = torch.where(goes_on, known_second, second)
        offer = []
        for known_value, value in ((known_token, token), (known_second, second), (known_run, run)):
            shifted = torch.where(head, known_value, value.roll(1))
            offer.append(torch.empty_like(shifted).scatter_(0, place, shifted))
        # of several keys in one slot the one that came last stays; the others write into the slot for waste
        tail = torch.ones_like(head)
        tail[:-1] = head[1:]
        latest = torch.full((self._slots,), -1, device=keys.device).scatter_reduce_(0, slot, place, "amax")
        slots = torch.where(tail & (latest[slot] == place), slot, self._slots)
        entries = torch.stack((check, token, run, second), 1).int()
        return Candidates(*offer), slots, torch.where((slots < self._slots)[:, None], entries, 0)

    def _keys(self, inputs: Tensor, order: int) -> Tensor:
        """A hash of the last ``order`` tokens at each row, int64, not negative."""
        stream = torch.cat((self._recent[len(self._recent) - (order - 1) :], inputs)) + 1
        keys = torch.zeros_like(inputs)
        for back in range(order):
            keys = (keys ^ stream[back : back + len(inputs)]) * 0x5851F42D4C957F2D
            keys = keys ^ (keys >> 29)
        return keys & 0x7FFFFFFFFFFFFFFF


def _log_total(logits: Tensor) -> Tensor:
    """logsumexp of each row, float32."""
    rows = max(1, BLOCK_ELEMENTS // logits.shape[1])
    return torch.cat([torch.logsumexp(part.float(), 1) for part in torch.split(logits, rows)])
