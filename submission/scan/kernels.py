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
def _rotation(omega_ptr, dt, theta0, rows, pairs, length, angles: tl.constexpr):  # type: ignore[no-untyped-def]
    """Angular velocities and angles of a chunk's pairs, (Q, N/2) float32; pairs from ``angles`` on do not turn."""
    inside = (rows[:, None] < length) & (pairs[None, :] < angles)
    omega = tl.load(omega_ptr + rows[:, None] * angles + pairs[None, :], mask=inside, other=0.0)
    step = omega * dt[:, None]
    return omega, theta0[None, :] + tl.cumsum(step, 0), tl.sum(step, 0)


@triton.jit
def _wrap(theta):  # type: ignore[no-untyped-def]
    """Modulo 2π."""
    return theta - 6.283185307179586 * tl.floor(theta * 0.15915494309189535)


@triton.jit
def _pairs(x, Q: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """Even and odd components of (Q, N)."""
    return tl.split(tl.reshape(x, (Q, N // 2, 2)))


@triton.jit
def _joined(even, odd, Q: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """(Q, N) from its even and odd components."""
    return tl.reshape(tl.join(even, odd), (Q, N))


@triton.jit
def scan_forward(  # type: ignore[no-untyped-def]
    q_ptr, k_ptr, v_ptr, z_ptr, a_ptr, dt_ptr, g_ptr, s_ptr, omega_ptr, q_bias_ptr, k_bias_ptr, d_ptr,
    start_ptr, theta0_ptr, y_ptr, states_ptr, thetas_ptr, end_ptr, theta_end_ptr,
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
    y_ptr += (batch * length * H + head) * P
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
        cos, sin = tl.cos(_wrap(theta)), tl.sin(_wrap(theta))
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
        y = y * z * tl.sigmoid(z)
        tl.store(y_ptr + rows[:, None] * (H * P) + p[None, :], y.to(y_ptr.dtype.element_ty), mask=valid[:, None])
        ahead = (v.to(tl.float32) * (s * tl.exp(total - c))[:, None]).to(v.dtype)
        state = tl.exp(total) * state + tl.dot(tl.trans(k_r), ahead)
    tl.store(end_ptr + lane * N * P + tile, state)
    tl.store(theta_end_ptr + lane * R + pair, theta0, mask=pair < R)


@triton.jit
def scan_backward(  # type: ignore[no-untyped-def]
    q_ptr, k_ptr, v_ptr, z_ptr, a_ptr, dt_ptr, g_ptr, s_ptr, omega_ptr, q_bias_ptr, k_bias_ptr, d_ptr,
    states_ptr, thetas_ptr, dy_ptr, dend_ptr, dtheta_end_ptr,
    dq_ptr, dk_ptr, dzv_ptr, da_ptr, ddt_ptr, dg_ptr, ds_ptr, domega_ptr, dq_bias_ptr, dk_bias_ptr, dd_ptr,
    dstart_ptr, dtheta0_ptr,
    length, stride_vb, stride_vl, stride_zb, stride_zl,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, R: tl.constexpr, Q: tl.constexpr, HAS_STATE: tl.constexpr,
):  # fmt: skip
    """Gradients; dq, dk (b, L, H, N) and domega (b, L, H, R) are a head's share, dq_bias, dk_bias, dd a sequence's."""
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
    own = batch * length * H + head  # row of this head in tensors (b, L, H, …)
    q_bias = tl.load(q_bias_ptr + head * N + n)
    k_bias = tl.load(k_bias_ptr + head * N + n)
    skip = tl.load(d_ptr + head)
    if HAS_STATE:
        dstate = tl.load(dend_ptr + lane * N * P + tile).to(tl.float32)
        dangle = tl.load(dtheta_end_ptr + lane * R + pair, mask=pair < R, other=0.0)
    else:
        dstate = tl.zeros((N, P), tl.float32)
        dangle = tl.zeros((N // 2,), tl.float32)
    dq_bias = tl.zeros((N,), tl.float32)
    dk_bias = tl.zeros((N,), tl.float32)
    dskip = tl.zeros((Q,), tl.float32)
    for back in range(chunks):
        chunk = chunks - 1 - back
        rows = chunk * Q + i
        valid = rows < length
        a = tl.load(a_ptr + lane * length + rows, mask=valid, other=0.0)
        dt = tl.load(dt_ptr + lane * length + rows, mask=valid, other=0.0)
        g = tl.load(g_ptr + lane * length + rows, mask=valid, other=0.0)
        s = tl.load(s_ptr + lane * length + rows, mask=valid, other=0.0)
        theta0 = tl.load(thetas_ptr + (lane * chunks + chunk) * R + pair, mask=pair < R, other=0.0)
        omega, theta, _ = _rotation(omega_ptr, dt, theta0, rows, pair, length, R)
        cos, sin = tl.cos(_wrap(theta)), tl.sin(_wrap(theta))
        grid = rows[:, None] * N + n[None, :]
        q = tl.load(q_ptr + grid, mask=valid[:, None], other=0.0).to(tl.float32) + q_bias[None, :]
        k = tl.load(k_ptr + grid, mask=valid[:, None], other=0.0).to(tl.float32) + k_bias[None, :]
        kappa = tl.sum(q * k, 1)
        q_even, q_odd = _pairs(q, Q, N)
        k_even, k_odd = _pairs(k, Q, N)
        v = tl.load(v_ptr + rows[:, None] * stride_vl + p[None, :], mask=valid[:, None], other=0.0)
        q_r = _joined(q_even * cos - q_odd * sin, q_even * sin + q_odd * cos, Q, N).to(v.dtype)
        k_r = _joined(k_even * cos - k_odd * sin, k_even * sin + k_odd * cos, Q, N).to(v.dtype)
        state = tl.load(states_ptr + (lane * chunks + chunk) * N * P + tile).to(v.dtype)
        c = tl.cumsum(a, 0)
        total = tl.sum(a, 0)
        lower = i[:, None] > i[None, :]
        between = tl.where(lower, tl.exp(tl.minimum(c[:, None] - c[None, :], 0.0)), 0.0)
        scores = tl.dot(q_r, tl.trans(k_r)) * between
        weights = (scores * s[None, :]).to(v.dtype)
        # the output once more, for the gate and for the decays
        core = tl.exp(c)[:, None] * tl.dot(q_r, state)
        core = tl.dot(weights, v, core)
        wide_v = v.to(tl.float32)
        z = tl.load(z_ptr + rows[:, None] * stride_zl + p[None, :], mask=valid[:, None], other=0.0).to(tl.float32)
        dy_at = own * P + rows[:, None] * (H * P) + p[None, :]
        dzv_at = batch * length * (2 * H * P) + head * P + rows[:, None] * (2 * H * P) + p[None, :]
        dout = tl.load(dy_ptr + dy_at, mask=valid[:, None], other=0.0).to(tl.float32)
        gate = tl.sigmoid(z)
        diagonal = g * kappa + skip
        dz = dout * (core + diagonal[:, None] * wide_v) * gate * (1 + z * (1 - gate))
        tl.store(dzv_ptr + dzv_at, dz.to(dzv_ptr.dtype.element_ty), mask=valid[:, None])
        dy = dout * z * gate
        dc = tl.sum(dy * core, 1)
        dot_v = tl.sum(dy * wide_v, 1)
        dskip += dot_v
        dkappa = g * dot_v
        narrow_dy = dy.to(v.dtype)
        # inside the chunk
        dweights = tl.dot(narrow_dy, tl.trans(v))
        ds = tl.sum(dweights * scores, 0)
        dc -= ds * s
        dscores = (dweights * between * s[None, :]).to(v.dtype)
        scaled_dy = (dy * tl.exp(c)[:, None]).to(v.dtype)
        dq_r = tl.dot(scaled_dy, tl.trans(state))
        dq_r = tl.dot(dscores, k_r, dq_r) + dkappa[:, None] * k_r.to(tl.float32)
        # through the state after the chunk
        to_end = tl.exp(total - c)
        narrow_dstate = dstate.to(v.dtype)
        through = tl.dot(k_r, narrow_dstate)
        pulled = tl.sum(through * wide_v, 1) * to_end
        ds += pulled
        dc -= pulled * s
        dtotal = tl.sum(pulled * s, 0) + tl.exp(total) * tl.sum(dstate * state.to(tl.float32))
        reach = s * to_end
        dv = through * reach[:, None] + diagonal[:, None] * dy
        dv = tl.dot(tl.trans(weights), narrow_dy, dv)
        tl.store(dzv_ptr + dzv_at + H * P, dv.to(dzv_ptr.dtype.element_ty), mask=valid[:, None])
        dk_r = tl.dot((wide_v * reach[:, None]).to(v.dtype), tl.trans(narrow_dstate))
        dk_r = tl.dot(tl.trans(dscores), q_r, dk_r) + dkappa[:, None] * q_r.to(tl.float32)
        dstate = tl.exp(total) * dstate + tl.dot(tl.trans(q_r), scaled_dy)
        # back through the rotation
        dq_even, dq_odd = _pairs(dq_r, Q, N)
        dk_even, dk_odd = _pairs(dk_r, Q, N)
        turned_q_even, turned_q_odd = _pairs(q_r.to(tl.float32), Q, N)
        turned_k_even, turned_k_odd = _pairs(k_r.to(tl.float32), Q, N)
        dtheta = dq_odd * turned_q_even - dq_even * turned_q_odd + dk_odd * turned_k_even - dk_even * turned_k_odd
        dq = _joined(dq_even * cos + dq_odd * sin, dq_odd * cos - dq_even * sin, Q, N)
        dk = _joined(dk_even * cos + dk_odd * sin, dk_odd * cos - dk_even * sin, Q, N)
        dq = tl.where(valid[:, None], dq, 0.0)
        dk = tl.where(valid[:, None], dk, 0.0)
        dq_bias += tl.sum(dq, 0)
        dk_bias += tl.sum(dk, 0)
        dq_at = own * N + rows[:, None] * (H * N) + n[None, :]
        tl.store(dq_ptr + dq_at, dq.to(dq_ptr.dtype.element_ty), mask=valid[:, None])
        tl.store(dk_ptr + dq_at, dk.to(dk_ptr.dtype.element_ty), mask=valid[:, None])
        dtheta = tl.where(valid[:, None], dtheta, 0.0)
        whole = tl.sum(dtheta, 0)
        dstep = dangle[None, :] + whole[None, :] - tl.cumsum(dtheta, 0) + dtheta
        dangle += whole
        turning = valid[:, None] & (pair[None, :] < R)
        domega_at = own * R + rows[:, None] * (H * R) + pair[None, :]
        tl.store(domega_ptr + domega_at, (dstep * dt[:, None]).to(domega_ptr.dtype.element_ty), mask=turning)
        scalars = lane * length + rows
        tl.store(ddt_ptr + scalars, tl.sum(dstep * omega, 1), mask=valid)
        dc = tl.where(valid, dc, 0.0)
        tl.store(da_ptr + scalars, dtotal + tl.sum(dc, 0) - tl.cumsum(dc, 0) + dc, mask=valid)
        tl.store(dg_ptr + scalars, kappa * dot_v, mask=valid)
        tl.store(ds_ptr + scalars, ds, mask=valid)
    tl.store(dq_bias_ptr + lane * N + n, dq_bias)
    tl.store(dk_bias_ptr + lane * N + n, dk_bias)
    tl.store(dd_ptr + lane, tl.sum(dskip, 0))
    if HAS_STATE:
        tl.store(dstart_ptr + lane * N * P + tile, dstate)
        tl.store(dtheta0_ptr + lane * R + pair, dangle, mask=pair < R)
