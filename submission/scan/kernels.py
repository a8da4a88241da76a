# mypy: disable-error-code="untyped-decorator,no-untyped-def"
"""Triton kernels of the Mamba-3 scan: rotation, then scan, skip and gate in one pass; forward and backward.

Rotation runs one chunk of one sequence for all heads: forward writes the heads' queries and keys (b, H, L, N) once,
backward adds up the heads' shares in registers. The scan runs one head of one sequence, chunk after chunk, with the
state (backward: its gradient) in registers; backward reads the state at each chunk's start, which forward leaves
behind in 16 bits. Angles, decays and sums are float32; products take operands of the inputs' type and add up in
float32.

Notation as in ``chunked``: T look-ahead state (here N × P), c cumulative log decay, s weight of an update, g = γ.
"""

from __future__ import annotations

import triton
import triton.language as tl


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
def _pairs(x, R: tl.constexpr):
    """Even and odd components (…, R), float32, of (…, 2R)."""
    return tl.split(tl.reshape(x.to(tl.float32), (x.shape[0], R, 2)))


@triton.jit
def _even_odd(ptr, r):
    """Even and odd components (1, R) of a head's bias."""
    return tl.load(ptr + 2 * r)[None, :], tl.load(ptr + 2 * r + 1)[None, :]


@triton.jit
def rotate_forward(
    q_ptr, k_ptr, omega_ptr, dt_ptr, q_bias_ptr, k_bias_ptr, thetas_ptr, q_out_ptr, k_out_ptr, length,
    H: tl.constexpr, N: tl.constexpr, R: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """q, k (b, L, N); omega (b, L, R); dt (b, H, L); thetas (b, H, C, R) → q, k biased and rotated, (b, H, L, N)."""
    chunk, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    r, turning = tl.arange(0, R), tl.arange(0, 2 * R)
    rows = chunk * Q + tl.arange(0, Q)
    valid = rows < length
    inside = valid[:, None]
    omega = tl.load(omega_ptr + (batch * length + rows)[:, None] * R + r[None, :], mask=inside, other=0.0)
    at = (batch * length + rows)[:, None] * N
    q_even, q_odd = _pairs(tl.load(q_ptr + at + turning[None, :], mask=inside, other=0.0), R)
    k_even, k_odd = _pairs(tl.load(k_ptr + at + turning[None, :], mask=inside, other=0.0), R)
    if 2 * R < N:
        still = 2 * R + tl.arange(0, N - 2 * R)
        q_still = tl.load(q_ptr + at + still[None, :], mask=inside, other=0.0).to(tl.float32)
        k_still = tl.load(k_ptr + at + still[None, :], mask=inside, other=0.0).to(tl.float32)
    for head in tl.range(H, num_stages=3):
        lane = batch * H + head
        dt = tl.load(dt_ptr + lane * length + rows, mask=valid, other=0.0)
        theta0 = tl.load(thetas_ptr + (lane * tl.cdiv(length, Q) + chunk) * R + r)
        cos, sin = _cos_sin(theta0[None, :] + tl.cumsum(omega * dt[:, None], 0))
        out = (lane * length + rows)[:, None] * N
        bias_even, bias_odd = _even_odd(q_bias_ptr + head * N, r)
        even, odd = q_even + bias_even, q_odd + bias_odd
        x = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (Q, 2 * R))
        tl.store(q_out_ptr + out + turning[None, :], x.to(q_out_ptr.dtype.element_ty), mask=inside)
        bias_even, bias_odd = _even_odd(k_bias_ptr + head * N, r)
        even, odd = k_even + bias_even, k_odd + bias_odd
        x = tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (Q, 2 * R))
        tl.store(k_out_ptr + out + turning[None, :], x.to(k_out_ptr.dtype.element_ty), mask=inside)
        if 2 * R < N:
            x = q_still + tl.load(q_bias_ptr + head * N + still)[None, :]
            tl.store(q_out_ptr + out + still[None, :], x.to(q_out_ptr.dtype.element_ty), mask=inside)
            x = k_still + tl.load(k_bias_ptr + head * N + still)[None, :]
            tl.store(k_out_ptr + out + still[None, :], x.to(k_out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def rotate_backward(
    q_ptr, k_ptr, omega_ptr, dt_ptr, q_bias_ptr, k_bias_ptr, thetas_ptr, dq_in_ptr, dk_in_ptr,
    dq_ptr, dk_ptr, ddt_ptr, domega_ptr, dthetas_ptr, dq_bias_ptr, dk_bias_ptr, length,
    H: tl.constexpr, N: tl.constexpr, R: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """Gradients at what ``rotate_forward`` reads, from those at its results.

    dq, dk (b, L, N) and domega (b, L, R) are sums over the heads; dq_bias, dk_bias (b, C, H, N) a chunk's share. An
    angle turns all later tokens: domega and ddt (b, H, L) hold this chunk's, dthetas (b, H, C, R) all that its start
    moves.
    """
    chunk, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    chunks = tl.cdiv(length, Q)
    r, turning = tl.arange(0, R), tl.arange(0, 2 * R)
    rows = chunk * Q + tl.arange(0, Q)
    valid = rows < length
    inside = valid[:, None]
    omega_at = (batch * length + rows)[:, None] * R + r[None, :]
    omega = tl.load(omega_ptr + omega_at, mask=inside, other=0.0)
    at = (batch * length + rows)[:, None] * N
    q_even, q_odd = _pairs(tl.load(q_ptr + at + turning[None, :], mask=inside, other=0.0), R)
    k_even, k_odd = _pairs(tl.load(k_ptr + at + turning[None, :], mask=inside, other=0.0), R)
    dq_even, dq_odd = tl.zeros((Q, R), tl.float32), tl.zeros((Q, R), tl.float32)
    dk_even, dk_odd = tl.zeros((Q, R), tl.float32), tl.zeros((Q, R), tl.float32)
    domega = tl.zeros((Q, R), tl.float32)
    if 2 * R < N:
        still = 2 * R + tl.arange(0, N - 2 * R)
        dq_still, dk_still = tl.zeros((Q, N - 2 * R), tl.float32), tl.zeros((Q, N - 2 * R), tl.float32)
    for head in tl.range(H, num_stages=3):
        lane = batch * H + head
        dt = tl.load(dt_ptr + lane * length + rows, mask=valid, other=0.0)
        theta0 = tl.load(thetas_ptr + (lane * chunks + chunk) * R + r)
        cos, sin = _cos_sin(theta0[None, :] + tl.cumsum(omega * dt[:, None], 0))
        share = (lane * length + rows)[:, None] * N
        bias = ((batch * chunks + chunk) * H + head) * N
        # turning back; what an angle does to a pair, even · d(odd) - odd · d(even), is the same in both frames
        even, odd = _pairs(tl.load(dq_in_ptr + share + turning[None, :], mask=inside, other=0.0), R)
        d_even, d_odd = even * cos + odd * sin, odd * cos - even * sin
        dq_even += d_even
        dq_odd += d_odd
        tl.store(dq_bias_ptr + bias + 2 * r, tl.sum(d_even, 0))
        tl.store(dq_bias_ptr + bias + 2 * r + 1, tl.sum(d_odd, 0))
        bias_even, bias_odd = _even_odd(q_bias_ptr + head * N, r)
        dtheta = (q_even + bias_even) * d_odd - (q_odd + bias_odd) * d_even
        even, odd = _pairs(tl.load(dk_in_ptr + share + turning[None, :], mask=inside, other=0.0), R)
        d_even, d_odd = even * cos + odd * sin, odd * cos - even * sin
        dk_even += d_even
        dk_odd += d_odd
        tl.store(dk_bias_ptr + bias + 2 * r, tl.sum(d_even, 0))
        tl.store(dk_bias_ptr + bias + 2 * r + 1, tl.sum(d_odd, 0))
        bias_even, bias_odd = _even_odd(k_bias_ptr + head * N, r)
        dtheta += (k_even + bias_even) * d_odd - (k_odd + bias_odd) * d_even
        if 2 * R < N:
            x = tl.load(dq_in_ptr + share + still[None, :], mask=inside, other=0.0).to(tl.float32)
            dq_still += x
            tl.store(dq_bias_ptr + bias + still, tl.sum(x, 0))
            x = tl.load(dk_in_ptr + share + still[None, :], mask=inside, other=0.0).to(tl.float32)
            dk_still += x
            tl.store(dk_bias_ptr + bias + still, tl.sum(x, 0))
        whole = tl.sum(dtheta, 0)
        tl.store(dthetas_ptr + (lane * chunks + chunk) * R + r, whole)
        dstep = whole[None, :] - tl.cumsum(dtheta, 0) + dtheta
        domega += dstep * dt[:, None]
        tl.store(ddt_ptr + lane * length + rows, tl.sum(dstep * omega, 1), mask=valid)
    tl.store(domega_ptr + omega_at, domega, mask=inside)
    dq = tl.reshape(tl.join(dq_even, dq_odd), (Q, 2 * R))
    tl.store(dq_ptr + at + turning[None, :], dq.to(dq_ptr.dtype.element_ty), mask=inside)
    dk = tl.reshape(tl.join(dk_even, dk_odd), (Q, 2 * R))
    tl.store(dk_ptr + at + turning[None, :], dk.to(dk_ptr.dtype.element_ty), mask=inside)
    if 2 * R < N:
        tl.store(dq_ptr + at + still[None, :], dq_still.to(dq_ptr.dtype.element_ty), mask=inside)
        tl.store(dk_ptr + at + still[None, :], dk_still.to(dk_ptr.dtype.element_ty), mask=inside)


@triton.jit
def scan_forward(
    q_ptr, k_ptr, v_ptr, z_ptr, a_ptr, g_ptr, s_ptr, d_ptr, y_ptr, plain_ptr, states_ptr,
    length, stride_vb, stride_vl, stride_zb, stride_zl,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, KEEP: tl.constexpr,
):  # fmt: skip
    """q, k (b, H, L, N); v, z strided (b, L, H, P); a, g, s (b, H, L)
    → y, plain (b, L, H, P), states (b, H, C, N, P)."""
    head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    lane = batch * H + head
    n, p, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, Q)
    tile = n[:, None] * P + p[None, :]
    chunks = tl.cdiv(length, Q)
    q_ptr += lane * length * N
    k_ptr += lane * length * N
    a_ptr += lane * length
    g_ptr += lane * length
    s_ptr += lane * length
    v_ptr += batch * stride_vb + head * P
    z_ptr += batch * stride_zb + head * P
    y_ptr += (batch * length * H + head) * P
    plain_ptr += (batch * length * H + head) * P
    states_ptr += lane * chunks * N * P
    skip = tl.load(d_ptr + head)
    state = tl.zeros((N, P), tl.float32)
    for chunk in range(chunks):
        rows = chunk * Q + i
        valid = rows < length
        inside = valid[:, None]
        q = tl.load(q_ptr + rows[:, None] * N + n[None, :], mask=inside, other=0.0)
        k = tl.load(k_ptr + rows[:, None] * N + n[None, :], mask=inside, other=0.0)
        v = tl.load(v_ptr + rows[:, None] * stride_vl + p[None, :], mask=inside, other=0.0)
        a = tl.load(a_ptr + rows, mask=valid, other=0.0)
        g = tl.load(g_ptr + rows, mask=valid, other=0.0)
        s = tl.load(s_ptr + rows, mask=valid, other=0.0)
        c = tl.cumsum(a, 0)
        total = tl.sum(a, 0)
        # the diagonal has no look-ahead: γ in place of s, and the skip
        diagonal = i[:, None] == i[None, :]
        weights = tl.where(i[:, None] > i[None, :], tl.exp(c[:, None] - c[None, :]) * s[None, :], 0.0)
        weights = tl.dot(q, tl.trans(k)) * tl.where(diagonal, g[:, None], weights)
        weights += tl.where(diagonal, skip, 0.0)
        narrow = state.to(v.dtype)
        if KEEP:
            tl.store(states_ptr + chunk * (N * P) + tile, narrow)
        y = tl.dot(weights.to(v.dtype), v, tl.dot(q, narrow) * tl.exp(c)[:, None])
        out = rows[:, None] * (H * P) + p[None, :]
        if KEEP:
            tl.store(plain_ptr + out, y.to(plain_ptr.dtype.element_ty), mask=inside)
        z = tl.load(z_ptr + rows[:, None] * stride_zl + p[None, :], mask=inside, other=0.0).to(tl.float32)
        tl.store(y_ptr + out, (y * z * tl.sigmoid(z)).to(y_ptr.dtype.element_ty), mask=inside)
        ahead = (v.to(tl.float32) * (s * tl.exp(total - c))[:, None]).to(v.dtype)
        state = tl.dot(tl.trans(k), ahead, tl.exp(total) * state)


@triton.jit
def gate_backward(
    z_ptr, plain_ptr, dy_ptr, dz_ptr, dplain_ptr, dot_ptr, length, stride_zb, stride_zl,
    H: tl.constexpr, P: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """dz (b, L, 2HP), dplain (b, L, H, P), and plain · dplain (b, H, L) of y = plain · silu(z)."""
    chunk, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    p = tl.arange(0, P)
    rows = chunk * Q + tl.arange(0, Q)
    valid = rows < length
    inside = valid[:, None]
    z_ptr += batch * stride_zb + head * P
    own = batch * length * H * P + head * P
    at = rows[:, None] * (H * P) + p[None, :]
    z = tl.load(z_ptr + rows[:, None] * stride_zl + p[None, :], mask=inside, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + own + at, mask=inside, other=0.0).to(tl.float32)
    plain = tl.load(plain_ptr + own + at, mask=inside, other=0.0).to(tl.float32)
    gate = tl.sigmoid(z)
    dz = dy * plain * gate * (1 + z * (1 - gate))
    dz_at = batch * length * (2 * H * P) + head * P + rows[:, None] * (2 * H * P) + p[None, :]
    tl.store(dz_ptr + dz_at, dz.to(dz_ptr.dtype.element_ty), mask=inside)
    dplain = dy * z * gate
    tl.store(dplain_ptr + own + at, dplain.to(dplain_ptr.dtype.element_ty), mask=inside)
    tl.store(dot_ptr + (batch * H + head) * length + rows, tl.sum(dplain * plain, 1), mask=valid)


@triton.jit
def state_backward(
    q_ptr, a_ptr, dy_ptr, states_ptr, dstates_ptr, turns_ptr, length,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, EVERY: tl.constexpr,
):  # fmt: skip
    """The only serial part: gradients of the states after each chunk, (b, H, C, N, P), from the last to the first.

    turns (b, H, ⌈C / EVERY⌉, N): before every EVERY-th chunk, the gradient of row n times the other row of its pair. To
    turn all that comes later by an angle is to turn the state back by it, so that the differences in a pair are what
    the later angles' gradients add up to.
    """
    head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    lane = batch * H + head
    n, p, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, Q)
    tile, partners = n[:, None] * P + p[None, :], (n ^ 1)[:, None] * P + p[None, :]
    chunks = tl.cdiv(length, Q)
    q_ptr += lane * length * N
    a_ptr += lane * length
    dy_ptr += (batch * length * H + head) * P
    states_ptr += lane * chunks * N * P
    dstates_ptr += lane * chunks * N * P
    turns_ptr += lane * tl.cdiv(chunks, EVERY) * N + n
    dstate = tl.zeros((N, P), tl.float32)
    for back in range(chunks):
        chunk = chunks - 1 - back
        rows = chunk * Q + i
        valid = rows < length
        inside = valid[:, None]
        q = tl.load(q_ptr + rows[:, None] * N + n[None, :], mask=inside, other=0.0)
        dy = tl.load(dy_ptr + rows[:, None] * (H * P) + p[None, :], mask=inside, other=0.0)
        a = tl.load(a_ptr + rows, mask=valid, other=0.0)
        tl.store(dstates_ptr + chunk * (N * P) + tile, dstate.to(dstates_ptr.dtype.element_ty))
        scaled_dy = (dy.to(tl.float32) * tl.exp(tl.cumsum(a, 0))[:, None]).to(q.dtype)
        dstate = tl.dot(tl.trans(q), scaled_dy, tl.exp(tl.sum(a, 0)) * dstate)
        if chunk % EVERY == 0:
            partner = tl.load(states_ptr + chunk * (N * P) + partners).to(tl.float32)
            tl.store(turns_ptr + (chunk // EVERY) * N, tl.sum(partner * dstate, 1))


@triton.jit
def chunk_backward(
    q_ptr, k_ptr, v_ptr, a_ptr, g_ptr, s_ptr, d_ptr, states_ptr, dstates_ptr, dy_ptr, dot_ptr,
    dq_ptr, dk_ptr, dv_ptr, da_ptr, dg_ptr, ds_ptr, dd_ptr,
    length, stride_vb, stride_vl,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """Gradients of one chunk, from the states around it: dq, dk (b, H, L, N), dv strided like dzv, dd (b, H, C).

    dy (b, L, H, P) and dot (b, H, L) as ``gate_backward`` leaves them. Matrices inside the chunk are transposed,
    (update j, output i), so that sums over outputs stay within a thread's row. Loads stand as late as they may, or the
    registers run out.
    """
    head, chunk, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    lane = batch * H + head
    n, p, i = tl.arange(0, N), tl.arange(0, P), tl.arange(0, Q)
    tile = n[:, None] * P + p[None, :]
    chunks = tl.cdiv(length, Q)
    grid = lane * length * N
    scalars = lane * length
    rows = chunk * Q + i
    valid = rows < length
    inside = valid[:, None]
    dy_at = (batch * length * H + head) * P
    at_n = rows[:, None] * N + n[None, :]
    q = tl.load(q_ptr + grid + at_n, mask=inside, other=0.0)
    k = tl.load(k_ptr + grid + at_n, mask=inside, other=0.0)
    a = tl.load(a_ptr + scalars + rows, mask=valid, other=0.0)
    g = tl.load(g_ptr + scalars + rows, mask=valid, other=0.0)
    s = tl.load(s_ptr + scalars + rows, mask=valid, other=0.0)
    skip = tl.load(d_ptr + head)
    c = tl.cumsum(a, 0)
    total = tl.sum(a, 0)
    diagonal = i[:, None] == i[None, :]
    scores = tl.dot(k, tl.trans(q))
    v = tl.load(v_ptr + batch * stride_vb + head * P + rows[:, None] * stride_vl + p[None, :], mask=inside, other=0.0)
    dy = tl.load(dy_ptr + dy_at + rows[:, None] * (H * P) + p[None, :], mask=inside, other=0.0)
    dscores = tl.dot(v, tl.trans(dy))
    dot_v = tl.sum(tl.where(diagonal, dscores, 0.0), 1)
    kappa = tl.sum(tl.where(diagonal, scores, 0.0), 1)
    decay = tl.where(i[:, None] < i[None, :], tl.exp(c[None, :] - c[:, None]), 0.0)
    ds = tl.sum(scores * dscores * decay, 1)
    decay = tl.where(diagonal, g[:, None], decay * s[:, None])
    dscores = (dscores * decay).to(v.dtype)
    scores = (scores * decay + tl.where(diagonal, skip, 0.0)).to(v.dtype)
    to_end = tl.exp(total - c)
    dstate = tl.load(dstates_ptr + (lane * chunks + chunk) * (N * P) + tile)
    dv = tl.dot(k, dstate)
    pulled = tl.sum(dv * v.to(tl.float32), 1) * to_end
    dv = tl.dot(scores, dy, dv * (s * to_end)[:, None])
    dv_at = batch * length * (2 * H * P) + head * P
    tl.store(dv_ptr + dv_at + rows[:, None] * (2 * H * P) + p[None, :], dv.to(dv_ptr.dtype.element_ty), mask=inside)
    dk = tl.dot(dscores, q, tl.dot(v, tl.trans(dstate)) * (s * to_end)[:, None])
    tl.store(dk_ptr + grid + at_n, dk.to(dk_ptr.dtype.element_ty), mask=inside)
    state = tl.load(states_ptr + (lane * chunks + chunk) * (N * P) + tile)
    dq = tl.dot(tl.trans(dscores), k, tl.dot(dy, tl.trans(state)) * tl.exp(c)[:, None])
    tl.store(dq_ptr + grid + at_n, dq.to(dq_ptr.dtype.element_ty), mask=inside)
    dtotal = tl.sum(s * pulled, 0) + tl.exp(total) * tl.sum(dstate.to(tl.float32) * state.to(tl.float32))
    ds += pulled
    tl.store(ds_ptr + scalars + rows, ds, mask=valid)
    tl.store(dg_ptr + scalars + rows, kappa * dot_v, mask=valid)
    tl.store(dd_ptr + lane * chunks + chunk, tl.sum(dot_v, 0))
    dc = tl.load(dot_ptr + scalars + rows, mask=valid, other=0.0) - (g * kappa + skip) * dot_v - s * ds
    tl.store(da_ptr + scalars + rows, dtotal + tl.sum(dc, 0) - tl.cumsum(dc, 0) + dc, mask=valid)
