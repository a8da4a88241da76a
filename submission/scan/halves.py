# mypy: disable-error-code="untyped-decorator,no-untyped-def"
"""The backward kernels once more, from queries and keys that the forward pass left biased and rotated.

They lie (b, H, L, N) with all even components first, then the odd ones: a product over N does not mind, as long as the
states' rows stand in the same order (``_rows_of_states``). So no kernel but the one that turns gradients back computes
an angle, and none splits or joins pairs. N/2 is at least 16, the least that a product takes. Notation as in
``kernels``; what is stored over N (dq, dk and the shares of the biases) has all even components first as well.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .kernels import _cos_sin, _rotation


@triton.jit
def _rows_of_states(n, N: tl.constexpr):
    """Where rows 0, 1, … of a tile stand in a state: the even rows, then the odd ones."""
    return tl.where(n < N // 2, 2 * n, 2 * n - N + 1)


@triton.jit
def state_backward(
    q_ptr, z_ptr, a_ptr, dy_ptr, dend_ptr, dstates_ptr, dstart_ptr,
    length, stride_zb, stride_zl,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, HAS_STATE: tl.constexpr,
):  # fmt: skip
    """As ``kernels.state_backward``: gradients of the states after each chunk, from the last to the first."""
    head, batch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    lane = batch * H + head
    n, p, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, Q)
    tile = _rows_of_states(n, N)[:, None] * P + p[None, :]
    chunks = tl.cdiv(length, Q)
    q_ptr += lane * length * N
    z_ptr += batch * stride_zb + head * P
    dy_ptr += (batch * length * H + head) * P
    dstate = tl.zeros((N, P), tl.float32)
    if HAS_STATE:
        dstate += tl.load(dend_ptr + lane * N * P + tile).to(tl.float32)
    for back in range(chunks):
        chunk = chunks - 1 - back
        rows = chunk * Q + i
        valid = rows < length
        tl.store(dstates_ptr + (lane * chunks + chunk) * N * P + tile, dstate.to(dstates_ptr.dtype.element_ty))
        a = tl.load(a_ptr + lane * length + rows, mask=valid, other=0.0)
        q = tl.load(q_ptr + rows[:, None] * N + n[None, :], mask=valid[:, None], other=0.0)
        z = tl.load(z_ptr + rows[:, None] * stride_zl + p[None, :], mask=valid[:, None], other=0.0).to(tl.float32)
        dout = tl.load(dy_ptr + rows[:, None] * (H * P) + p[None, :], mask=valid[:, None], other=0.0)
        scaled_dy = dout.to(tl.float32) * z * tl.sigmoid(z) * tl.exp(tl.cumsum(a, 0))[:, None]
        dstate = tl.exp(tl.sum(a, 0)) * dstate + tl.dot(tl.trans(q), scaled_dy.to(dout.dtype))
    if HAS_STATE:
        tl.store(dstart_ptr + lane * N * P + tile, dstate)


@triton.jit
def query_key_backward(
    q_ptr, k_ptr, v_ptr, z_ptr, a_ptr, dt_ptr, g_ptr, s_ptr, omega_ptr,
    states_ptr, thetas_ptr, dy_ptr, dstates_ptr,
    dq_ptr, dk_ptr, ddt_ptr, domega_ptr, dthetas_ptr, dtotals_ptr, dq_bias_ptr, dk_bias_ptr,
    length, stride_vb, stride_vl, stride_zb, stride_zl,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, R: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """As ``kernels.query_key_backward``: gradients of one chunk's queries, keys and angles."""
    head, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    batch = tl.program_id(2).to(tl.int64)
    lane = batch * H + head
    p, pair, i = tl.arange(0, P), tl.arange(0, N // 2), tl.arange(0, Q)
    tile = 2 * pair[:, None] * P + p[None, :]
    here = lane * tl.cdiv(length, Q) + chunk
    rows = chunk * Q + i
    valid = rows < length
    scalars = lane * length + rows
    own = batch * length * H + head  # row of this head in tensors (b, L, H, …)
    a = tl.load(a_ptr + scalars, mask=valid, other=0.0)
    dt = tl.load(dt_ptr + scalars, mask=valid, other=0.0)
    g = tl.load(g_ptr + scalars, mask=valid, other=0.0)
    s = tl.load(s_ptr + scalars, mask=valid, other=0.0)
    c = tl.cumsum(a, 0)
    total = tl.sum(a, 0)
    v = tl.load(v_ptr + batch * stride_vb + head * P + rows[:, None] * stride_vl + p[None, :],
                mask=valid[:, None], other=0.0)  # fmt: skip
    z = tl.load(z_ptr + batch * stride_zb + head * P + rows[:, None] * stride_zl + p[None, :],
                mask=valid[:, None], other=0.0).to(tl.float32)  # fmt: skip
    dout = tl.load(dy_ptr + own * P + rows[:, None] * (H * P) + p[None, :], mask=valid[:, None], other=0.0)
    wide_dy = dout.to(tl.float32) * z * tl.sigmoid(z)
    dkappa = (g * tl.sum(wide_dy * v.to(tl.float32), 1))[:, None]
    dy = wide_dy.to(v.dtype)
    between = tl.where(i[:, None] > i[None, :], tl.exp(tl.minimum(c[:, None] - c[None, :], 0.0)) * s[None, :], 0.0)
    dscores = (tl.dot(dy, tl.trans(v)) * between).to(v.dtype)
    turned = scalars[:, None] * N + pair[None, :]
    q_e = tl.load(q_ptr + turned, mask=valid[:, None], other=0.0)
    q_o = tl.load(q_ptr + turned + N // 2, mask=valid[:, None], other=0.0)
    k_e = tl.load(k_ptr + turned, mask=valid[:, None], other=0.0)
    k_o = tl.load(k_ptr + turned + N // 2, mask=valid[:, None], other=0.0)
    state_e = tl.load(states_ptr + here * N * P + tile)
    state_o = tl.load(states_ptr + here * N * P + tile + P)
    dstate_e = tl.load(dstates_ptr + here * N * P + tile)
    dstate_o = tl.load(dstates_ptr + here * N * P + tile + P)
    agree = tl.sum(dstate_e.to(tl.float32) * state_e.to(tl.float32))
    agree += tl.sum(dstate_o.to(tl.float32) * state_o.to(tl.float32))
    tl.store(dtotals_ptr + here, tl.exp(total) * agree)
    from_start = tl.exp(c)[:, None]
    dq_e = tl.dot(dscores, k_e, tl.dot(dy, tl.trans(state_e)) * from_start) + dkappa * k_e.to(tl.float32)
    dq_o = tl.dot(dscores, k_o, tl.dot(dy, tl.trans(state_o)) * from_start) + dkappa * k_o.to(tl.float32)
    to_end = (s * tl.exp(total - c))[:, None]
    turned_ds = tl.trans(dscores)
    dk_e = tl.dot(turned_ds, q_e, tl.dot(v, tl.trans(dstate_e)) * to_end) + dkappa * q_e.to(tl.float32)
    dk_o = tl.dot(turned_ds, q_o, tl.dot(v, tl.trans(dstate_o)) * to_end) + dkappa * q_o.to(tl.float32)
    dtheta = dq_o * q_e.to(tl.float32) - dq_e * q_o.to(tl.float32)
    dtheta += dk_o * k_e.to(tl.float32) - dk_e * k_o.to(tl.float32)
    theta0 = tl.load(thetas_ptr + here * R + pair, mask=pair < R, other=0.0)
    omega, theta, _ = _rotation(omega_ptr + batch * length * R, dt, theta0, rows, pair, length, R)
    cos, sin = _cos_sin(theta)
    out = own * N + rows[:, None] * (H * N) + pair[None, :]
    _store_turned_back(dq_ptr + out, dq_bias_ptr + here * N + pair, dq_e, dq_o, cos, sin, valid, N)
    _store_turned_back(dk_ptr + out, dk_bias_ptr + here * N + pair, dk_e, dk_o, cos, sin, valid, N)
    dtheta = tl.where(valid[:, None], dtheta, 0.0)
    whole = tl.sum(dtheta, 0)
    tl.store(dthetas_ptr + here * R + pair, whole, mask=pair < R)
    dstep = whole[None, :] - tl.cumsum(dtheta, 0) + dtheta
    domega_at = own * R + rows[:, None] * (H * R) + pair[None, :]
    turning = valid[:, None] & (pair[None, :] < R)
    tl.store(domega_ptr + domega_at, (dstep * dt[:, None]).to(domega_ptr.dtype.element_ty), mask=turning)
    tl.store(ddt_ptr + scalars, tl.sum(dstep * omega, 1), mask=valid)


@triton.jit
def _store_turned_back(ptr, bias_ptr, even, odd, cos, sin, valid, N: tl.constexpr):
    """Store gradients before the rotation, and their sums over the chunk."""
    first = even * cos + odd * sin
    second = odd * cos - even * sin
    tl.store(ptr, first.to(ptr.dtype.element_ty), mask=valid[:, None])
    tl.store(ptr + N // 2, second.to(ptr.dtype.element_ty), mask=valid[:, None])
    tl.store(bias_ptr, tl.sum(tl.where(valid[:, None], first, 0.0), 0))
    tl.store(bias_ptr + N // 2, tl.sum(tl.where(valid[:, None], second, 0.0), 0))


@triton.jit
def value_backward(
    q_ptr, k_ptr, v_ptr, z_ptr, a_ptr, g_ptr, s_ptr, d_ptr, plain_ptr, dy_ptr, dstates_ptr, dtotals_ptr,
    dzv_ptr, da_ptr, dg_ptr, ds_ptr, dd_ptr,
    length, stride_vb, stride_vl, stride_zb, stride_zl,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """As ``kernels.value_backward``: gradients of one chunk's values, gate, decays, weights and skip."""
    head, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    batch = tl.program_id(2).to(tl.int64)
    lane = batch * H + head
    n, p, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, Q)
    here = lane * tl.cdiv(length, Q) + chunk
    rows = chunk * Q + i
    valid = rows < length
    scalars = lane * length + rows
    dy_at = (batch * length * H + head) * P + rows[:, None] * (H * P) + p[None, :]
    a = tl.load(a_ptr + scalars, mask=valid, other=0.0)
    g = tl.load(g_ptr + scalars, mask=valid, other=0.0)
    s = tl.load(s_ptr + scalars, mask=valid, other=0.0)
    c = tl.cumsum(a, 0)
    total = tl.sum(a, 0)
    q = tl.load(q_ptr + scalars[:, None] * N + n[None, :], mask=valid[:, None], other=0.0)
    k = tl.load(k_ptr + scalars[:, None] * N + n[None, :], mask=valid[:, None], other=0.0)
    kappa = tl.sum(q.to(tl.float32) * k.to(tl.float32), 1)  # the rotation does not change it
    scores = tl.dot(q, tl.trans(k))
    scores *= tl.where(i[:, None] > i[None, :], tl.exp(tl.minimum(c[:, None] - c[None, :], 0.0)), 0.0)
    tile = _rows_of_states(n, N)[:, None] * P + p[None, :]
    through = tl.dot(k, tl.load(dstates_ptr + here * N * P + tile))
    # the gate; loaded late, or the registers run out
    v = tl.load(v_ptr + batch * stride_vb + head * P + rows[:, None] * stride_vl + p[None, :],
                mask=valid[:, None], other=0.0)  # fmt: skip
    z = tl.load(z_ptr + batch * stride_zb + head * P + rows[:, None] * stride_zl + p[None, :],
                mask=valid[:, None], other=0.0).to(tl.float32)  # fmt: skip
    dout = tl.load(dy_ptr + dy_at, mask=valid[:, None], other=0.0).to(tl.float32)
    gate = tl.sigmoid(z)
    dzv_at = batch * length * (2 * H * P) + head * P + rows[:, None] * (2 * H * P) + p[None, :]
    plain = tl.load(plain_ptr + dy_at, mask=valid[:, None], other=0.0).to(tl.float32)
    dz = dout * plain * gate * (1 + z * (1 - gate))
    tl.store(dzv_ptr + dzv_at, dz.to(dzv_ptr.dtype.element_ty), mask=valid[:, None])
    wide_v = v.to(tl.float32)
    wide_dy = dout * z * gate
    dot_v = tl.sum(wide_dy * wide_v, 1)
    diagonal = g * kappa + tl.load(d_ptr + head)
    dc = tl.sum(wide_dy * plain, 1) - diagonal * dot_v
    tl.store(dd_ptr + here, tl.sum(dot_v, 0))
    tl.store(dg_ptr + scalars, kappa * dot_v, mask=valid)
    dy = wide_dy.to(v.dtype)
    # through the state after the chunk, then inside the chunk
    to_end = tl.exp(total - c)
    pulled = tl.sum(through * wide_v, 1) * to_end
    dv = through * (s * to_end)[:, None] + diagonal[:, None] * wide_dy
    dv = tl.dot(tl.trans((scores * s[None, :]).to(v.dtype)), dy, dv)
    tl.store(dzv_ptr + dzv_at + H * P, dv.to(dzv_ptr.dtype.element_ty), mask=valid[:, None])
    ds = tl.sum(tl.dot(dy, tl.trans(v)) * scores, 0) + pulled
    tl.store(ds_ptr + scalars, ds, mask=valid)
    dc = tl.where(valid, dc - ds * s, 0.0)
    dtotal = tl.sum(pulled * s, 0) + tl.load(dtotals_ptr + here)
    tl.store(da_ptr + scalars, dtotal + tl.sum(dc, 0) - tl.cumsum(dc, 0) + dc, mask=valid)
