# mypy: disable-error-code="untyped-decorator,no-untyped-def"
"""Triton kernels of the Mamba-3 scan: rotation, scan, skip and gate in one pass, forward and backward.

One program runs one head of one sequence, chunk after chunk. Queries and keys are biased and rotated in registers, so
nothing of the size (b, L, H, N) is written in the forward pass; the backward pass computes the chunk again from the
state at its start, which the forward pass leaves behind in 16 bits. Angles, decays and sums are float32; products
take operands of the inputs' type and add up in float32.

Notation as in ``chunked``: T look-ahead state (here N × P), c cumulative log decay, s weight of an update, g = γ.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _rotation(omega_ptr, dt, theta0, rows, pairs, length, angles: tl.constexpr):
    """Angular velocities and angles of a chunk's pairs, (Q, N/2) float32; pairs from ``angles`` on do not turn."""
    inside = (rows[:, None] < length) & (pairs[None, :] < angles)
    omega = tl.load(omega_ptr + rows[:, None] * angles + pairs[None, :], mask=inside, other=0.0)
    step = omega * dt[:, None]
    return omega, theta0[None, :] + tl.cumsum(step, 0), tl.sum(step, 0)


@triton.jit
def _wrap(theta):
    """Modulo 2π."""
    return theta - 6.283185307179586 * tl.floor(theta * 0.15915494309189535)


@triton.jit
def _cos_sin(theta):
    """cos and sin by polynomials in half the angle, off by less than 1e-6; the library's slow path costs registers."""
    turns = theta * 0.15915494309189535
    t = 2 * (turns - tl.floor(turns + 0.5))  # half turns in [-1, 1)
    u = t * t
    sin_half = u * -3.43182925e-06 + 0.000160254691
    sin_half = u * sin_half - 0.0046816578
    sin_half = u * sin_half + 0.0796926037
    sin_half = u * sin_half - 0.645964096
    sin_half = u * sin_half + 1.57079633
    sin_half = sin_half * t
    cos_half = u * -2.38245355e-05 + 0.000917723882
    cos_half = u * cos_half - 0.0208626875
    cos_half = u * cos_half + 0.253669322
    cos_half = u * cos_half - 1.23370053
    cos_half = u * cos_half + 1
    return 1 - 2 * sin_half * sin_half, 2 * sin_half * cos_half


@triton.jit
def _pairs(x, Q: tl.constexpr, N: tl.constexpr):
    """Even and odd components of (Q, N)."""
    return tl.split(tl.reshape(x, (Q, N // 2, 2)))


@triton.jit
def _joined(even, odd, Q: tl.constexpr, N: tl.constexpr):
    """(Q, N) from its even and odd components."""
    return tl.reshape(tl.join(even, odd), (Q, N))


@triton.jit
def scan_forward(
    q_ptr, k_ptr, v_ptr, z_ptr, a_ptr, dt_ptr, g_ptr, s_ptr, omega_ptr, q_bias_ptr, k_bias_ptr, d_ptr,
    start_ptr, theta0_ptr, y_ptr, plain_ptr, states_ptr, thetas_ptr, end_ptr, theta_end_ptr,
    length, stride_vb, stride_vl, stride_zb, stride_zl,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, R: tl.constexpr, Q: tl.constexpr, HAS_STATE: tl.constexpr,
    KEEP: tl.constexpr,
):  # fmt: skip
    """q, k (b, L, N); v, z strided (b, L, H, P); a, dt, g, s (b, H, L); omega (b, L, R); states (b, H, C, N, P)."""
    head, batch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    lane = batch * H + head
    n, p, pair, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, N // 2), tl.arange(0, Q)
    tile = n[:, None] * P + p[None, :]
    chunks = tl.cdiv(length, Q)
    q_ptr += batch * length * N
    k_ptr += batch * length * N
    omega_ptr += batch * length * R
    v_ptr += batch * stride_vb + head * P
    z_ptr += batch * stride_zb + head * P
    out = (batch * length * H + head) * P
    q_bias = tl.load(q_bias_ptr + head * N + n)
    k_bias = tl.load(k_bias_ptr + head * N + n)
    skip = tl.load(d_ptr + head)
    if HAS_STATE:
        state = tl.load(start_ptr + lane * N * P + tile).to(tl.float32)
        theta0 = tl.load(theta0_ptr + lane * R + pair, mask=pair < R, other=0.0)
    else:
        state = tl.zeros((N, P), tl.float32)
        theta0 = tl.zeros((N // 2,), tl.float32)
    for chunk in range(chunks):
        rows = chunk * Q + i
        valid = rows < length
        if KEEP:
            tl.store(states_ptr + (lane * chunks + chunk) * N * P + tile, state.to(states_ptr.dtype.element_ty))
            tl.store(thetas_ptr + (lane * chunks + chunk) * R + pair, theta0, mask=pair < R)
        a = tl.load(a_ptr + lane * length + rows, mask=valid, other=0.0)
        dt = tl.load(dt_ptr + lane * length + rows, mask=valid, other=0.0)
        g = tl.load(g_ptr + lane * length + rows, mask=valid, other=0.0)
        s = tl.load(s_ptr + lane * length + rows, mask=valid, other=0.0)
        _, theta, turned = _rotation(omega_ptr, dt, theta0, rows, pair, length, R)
        theta0 = _wrap(theta0 + turned)
        cos, sin = _cos_sin(theta)
        grid = rows[:, None] * N + n[None, :]
        q = tl.load(q_ptr + grid, mask=valid[:, None], other=0.0).to(tl.float32) + q_bias[None, :]
        k = tl.load(k_ptr + grid, mask=valid[:, None], other=0.0).to(tl.float32) + k_bias[None, :]
        diagonal = g * tl.sum(q * k, 1) + skip
        q_even, q_odd = _pairs(q, Q, N)
        k_even, k_odd = _pairs(k, Q, N)
        v = tl.load(v_ptr + rows[:, None] * stride_vl + p[None, :], mask=valid[:, None], other=0.0)
        q_r = _joined(q_even * cos - q_odd * sin, q_even * sin + q_odd * cos, Q, N).to(v.dtype)
        k_r = _joined(k_even * cos - k_odd * sin, k_even * sin + k_odd * cos, Q, N).to(v.dtype)
        c = tl.cumsum(a, 0)
        total = tl.sum(a, 0)
        between = tl.exp(tl.minimum(c[:, None] - c[None, :], 0.0)) * s[None, :]
        weights = tl.where(i[:, None] > i[None, :], tl.dot(q_r, tl.trans(k_r)) * between, 0.0)
        y = tl.exp(c)[:, None] * tl.dot(q_r, state.to(v.dtype))
        y = tl.dot(weights.to(v.dtype), v, y) + diagonal[:, None] * v.to(tl.float32)
        z = tl.load(z_ptr + rows[:, None] * stride_zl + p[None, :], mask=valid[:, None], other=0.0).to(tl.float32)
        at = out + rows[:, None] * (H * P) + p[None, :]
        if KEEP:
            tl.store(plain_ptr + at, y.to(plain_ptr.dtype.element_ty), mask=valid[:, None])
        y = y * z * tl.sigmoid(z)
        tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=valid[:, None])
        ahead = (v.to(tl.float32) * (s * tl.exp(total - c))[:, None]).to(v.dtype)
        state = tl.exp(total) * state + tl.dot(tl.trans(k_r), ahead)
    tl.store(end_ptr + lane * N * P + tile, state)
    tl.store(theta_end_ptr + lane * R + pair, theta0, mask=pair < R)


@triton.jit
def state_backward(
    q_ptr, z_ptr, a_ptr, dt_ptr, omega_ptr, q_bias_ptr, thetas_ptr, dy_ptr, dend_ptr, dstates_ptr, dstart_ptr,
    length, stride_zb, stride_zl,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, R: tl.constexpr, Q: tl.constexpr, HAS_STATE: tl.constexpr,
):  # fmt: skip
    """The only serial part: gradients of the states after each chunk, (b, H, C, N, P), from the last to the first."""
    head, batch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    lane = batch * H + head
    n, p, pair, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, N // 2), tl.arange(0, Q)
    tile = n[:, None] * P + p[None, :]
    chunks = tl.cdiv(length, Q)
    q_ptr += batch * length * N
    omega_ptr += batch * length * R
    z_ptr += batch * stride_zb + head * P
    dy_ptr += (batch * length * H + head) * P
    q_bias = tl.load(q_bias_ptr + head * N + n)
    dstate = tl.zeros((N, P), tl.float32)
    if HAS_STATE:
        dstate += tl.load(dend_ptr + lane * N * P + tile).to(tl.float32)
    for back in range(chunks):
        chunk = chunks - 1 - back
        rows = chunk * Q + i
        valid = rows < length
        at = (lane * chunks + chunk) * N * P + tile
        tl.store(dstates_ptr + at, dstate.to(dstates_ptr.dtype.element_ty))
        a = tl.load(a_ptr + lane * length + rows, mask=valid, other=0.0)
        dt = tl.load(dt_ptr + lane * length + rows, mask=valid, other=0.0)
        theta0 = tl.load(thetas_ptr + (lane * chunks + chunk) * R + pair, mask=pair < R, other=0.0)
        _, theta, _ = _rotation(omega_ptr, dt, theta0, rows, pair, length, R)
        cos, sin = _cos_sin(theta)
        q = tl.load(q_ptr + rows[:, None] * N + n[None, :], mask=valid[:, None], other=0.0).to(tl.float32)
        q_even, q_odd = _pairs(q + q_bias[None, :], Q, N)
        z = tl.load(z_ptr + rows[:, None] * stride_zl + p[None, :], mask=valid[:, None], other=0.0).to(tl.float32)
        dout = tl.load(dy_ptr + rows[:, None] * (H * P) + p[None, :], mask=valid[:, None], other=0.0)
        q_r = _joined(q_even * cos - q_odd * sin, q_even * sin + q_odd * cos, Q, N).to(dout.dtype)
        scaled_dy = dout.to(tl.float32) * z * tl.sigmoid(z) * tl.exp(tl.cumsum(a, 0))[:, None]
        dstate = tl.exp(tl.sum(a, 0)) * dstate + tl.dot(tl.trans(q_r), scaled_dy.to(dout.dtype))
    if HAS_STATE:
        tl.store(dstart_ptr + lane * N * P + tile, dstate)


@triton.jit
def query_key_backward(
    q_ptr, k_ptr, v_ptr, z_ptr, a_ptr, dt_ptr, g_ptr, s_ptr, omega_ptr, q_bias_ptr, k_bias_ptr,
    states_ptr, thetas_ptr, dy_ptr, dstates_ptr,
    dq_ptr, dk_ptr, ddt_ptr, domega_ptr, dthetas_ptr, dtotals_ptr, dq_bias_ptr, dk_bias_ptr,
    length, stride_vb, stride_vl, stride_zb, stride_zl,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, R: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """Gradients of one chunk's queries, keys, angles, from the states around it.

    dq, dk (b, L, H, N) and domega (b, L, H, R) are a head's share; dq_bias, dk_bias (b, H, C, N) a chunk's. Angles turn
    all later tokens: domega and ddt hold this chunk's part, dthetas (b, H, C, R) its sum. dtotals (b, H, C): what the
    chunk's whole decay does to the state.
    """
    head, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    batch = tl.program_id(2).to(tl.int64)
    lane = batch * H + head
    n, p, pair, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, N // 2), tl.arange(0, Q)
    tile = n[:, None] * P + p[None, :]
    here = lane * tl.cdiv(length, Q) + chunk
    rows = chunk * Q + i
    valid = rows < length
    scalars = lane * length + rows
    own = batch * length * H + head  # row of this head in tensors (b, L, H, …)
    dy_at = own * P + rows[:, None] * (H * P) + p[None, :]
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
    dout = tl.load(dy_ptr + dy_at, mask=valid[:, None], other=0.0).to(tl.float32)
    gate = tl.sigmoid(z)
    wide_dy = dout * z * gate
    dkappa = g * tl.sum(wide_dy * v.to(tl.float32), 1)
    dy = wide_dy.to(v.dtype)
    between = tl.where(i[:, None] > i[None, :], tl.exp(tl.minimum(c[:, None] - c[None, :], 0.0)) * s[None, :], 0.0)
    dscores = (tl.dot(dy, tl.trans(v)) * between).to(v.dtype)
    theta0 = tl.load(thetas_ptr + here * R + pair, mask=pair < R, other=0.0)
    omega, theta, _ = _rotation(omega_ptr + batch * length * R, dt, theta0, rows, pair, length, R)
    cos, sin = _cos_sin(theta)
    grid = batch * length * N + rows[:, None] * N + n[None, :]
    q = tl.load(q_ptr + grid, mask=valid[:, None], other=0.0).to(tl.float32)
    q += tl.load(q_bias_ptr + head * N + n)[None, :]
    k = tl.load(k_ptr + grid, mask=valid[:, None], other=0.0).to(tl.float32)
    k += tl.load(k_bias_ptr + head * N + n)[None, :]
    q_even, q_odd = _pairs(q, Q, N)
    k_even, k_odd = _pairs(k, Q, N)
    q_r = _joined(q_even * cos - q_odd * sin, q_even * sin + q_odd * cos, Q, N).to(v.dtype)
    k_r = _joined(k_even * cos - k_odd * sin, k_even * sin + k_odd * cos, Q, N).to(v.dtype)
    dq_at = own * N + rows[:, None] * (H * N) + n[None, :]
    state = tl.load(states_ptr + here * N * P + tile)
    dq_r = tl.dot(dy, tl.trans(state)) * tl.exp(c)[:, None]
    dq_r = tl.dot(dscores, k_r, dq_r) + dkappa[:, None] * k_r.to(tl.float32)
    dq_even, dq_odd = _pairs(dq_r, Q, N)
    even, odd = _pairs(q_r.to(tl.float32), Q, N)
    dtheta = dq_odd * even - dq_even * odd
    dq = _joined(dq_even * cos + dq_odd * sin, dq_odd * cos - dq_even * sin, Q, N)
    tl.store(dq_ptr + dq_at, dq.to(dq_ptr.dtype.element_ty), mask=valid[:, None])
    tl.store(dq_bias_ptr + here * N + n, tl.sum(tl.where(valid[:, None], dq, 0.0), 0))
    dstate = tl.load(dstates_ptr + here * N * P + tile)
    tl.store(dtotals_ptr + here, tl.exp(total) * tl.sum(dstate.to(tl.float32) * state.to(tl.float32)))
    dk_r = tl.dot(v, tl.trans(dstate)) * (s * tl.exp(total - c))[:, None]
    dk_r = tl.dot(tl.trans(dscores), q_r, dk_r) + dkappa[:, None] * q_r.to(tl.float32)
    dk_even, dk_odd = _pairs(dk_r, Q, N)
    even, odd = _pairs(k_r.to(tl.float32), Q, N)
    dtheta += dk_odd * even - dk_even * odd
    dk = _joined(dk_even * cos + dk_odd * sin, dk_odd * cos - dk_even * sin, Q, N)
    tl.store(dk_ptr + dq_at, dk.to(dk_ptr.dtype.element_ty), mask=valid[:, None])
    tl.store(dk_bias_ptr + here * N + n, tl.sum(tl.where(valid[:, None], dk, 0.0), 0))
    dtheta = tl.where(valid[:, None], dtheta, 0.0)
    whole = tl.sum(dtheta, 0)
    tl.store(dthetas_ptr + here * R + pair, whole, mask=pair < R)
    dstep = whole[None, :] - tl.cumsum(dtheta, 0) + dtheta
    domega_at = own * R + rows[:, None] * (H * R) + pair[None, :]
    turning = valid[:, None] & (pair[None, :] < R)
    tl.store(domega_ptr + domega_at, (dstep * dt[:, None]).to(domega_ptr.dtype.element_ty), mask=turning)
    tl.store(ddt_ptr + scalars, tl.sum(dstep * omega, 1), mask=valid)


@triton.jit
def value_backward(
    q_ptr, k_ptr, v_ptr, z_ptr, a_ptr, dt_ptr, g_ptr, s_ptr, omega_ptr, q_bias_ptr, k_bias_ptr, d_ptr,
    plain_ptr, thetas_ptr, dy_ptr, dstates_ptr, dtotals_ptr,
    dzv_ptr, da_ptr, dg_ptr, ds_ptr, dd_ptr,
    length, stride_vb, stride_vl, stride_zb, stride_zl,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, R: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """Gradients of one chunk's values, gate, decays, weights and (b, H, C) its share of the skip's."""
    head, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    batch = tl.program_id(2).to(tl.int64)
    lane = batch * H + head
    n, p, pair, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, N // 2), tl.arange(0, Q)
    tile = n[:, None] * P + p[None, :]
    here = lane * tl.cdiv(length, Q) + chunk
    rows = chunk * Q + i
    valid = rows < length
    scalars = lane * length + rows
    own = batch * length * H + head  # row of this head in tensors (b, L, H, …)
    dy_at = own * P + rows[:, None] * (H * P) + p[None, :]
    a = tl.load(a_ptr + scalars, mask=valid, other=0.0)
    dt = tl.load(dt_ptr + scalars, mask=valid, other=0.0)
    g = tl.load(g_ptr + scalars, mask=valid, other=0.0)
    s = tl.load(s_ptr + scalars, mask=valid, other=0.0)
    c = tl.cumsum(a, 0)
    total = tl.sum(a, 0)
    theta0 = tl.load(thetas_ptr + here * R + pair, mask=pair < R, other=0.0)
    _, theta, _ = _rotation(omega_ptr + batch * length * R, dt, theta0, rows, pair, length, R)
    cos, sin = _cos_sin(theta)
    grid = batch * length * N + rows[:, None] * N + n[None, :]
    q = tl.load(q_ptr + grid, mask=valid[:, None], other=0.0).to(tl.float32)
    q += tl.load(q_bias_ptr + head * N + n)[None, :]
    k = tl.load(k_ptr + grid, mask=valid[:, None], other=0.0).to(tl.float32)
    k += tl.load(k_bias_ptr + head * N + n)[None, :]
    q_even, q_odd = _pairs(q, Q, N)
    k_even, k_odd = _pairs(k, Q, N)
    q_r = _joined(q_even * cos - q_odd * sin, q_even * sin + q_odd * cos, Q, N).to(v_ptr.dtype.element_ty)
    k_r = _joined(k_even * cos - k_odd * sin, k_even * sin + k_odd * cos, Q, N).to(v_ptr.dtype.element_ty)
    kappa = tl.sum(q * k, 1)
    scores = tl.dot(q_r, tl.trans(k_r))
    scores *= tl.where(i[:, None] > i[None, :], tl.exp(tl.minimum(c[:, None] - c[None, :], 0.0)), 0.0)
    dstate = tl.load(dstates_ptr + here * N * P + tile)
    through = tl.dot(k_r, dstate)
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
