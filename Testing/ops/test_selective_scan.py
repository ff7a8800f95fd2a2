"""What `selective_scan` computes, on every back end that runs on a CPU."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from DiffMaCore.ops.scan import available_backends, selective_scan
from Testing.ops.problems import make_problem, solve, worst_error

BACKENDS = [name for name, reason in available_backends("cpu").items() if reason is None]
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def test_the_reference_is_the_recurrence_written_out_number_by_number() -> None:
    problem = make_problem(1, 2, 3, 2)
    u, delta, A, B, C, D, z, bias = (tensor.double() for tensor in problem.values())
    state = torch.zeros(2, 2, dtype=torch.float64)
    for t in range(3):
        for d in range(2):
            step = torch.log1p(torch.exp(delta[0, d, t] + bias[d]))
            y = D[d] * u[0, d, t]
            for n in range(2):
                state[d, n] = torch.exp(step * A[d, n]) * state[d, n] + step * B[0, n, t] * u[0, d, t]
                y = y + C[0, n, t] * state[d, n]
            expected = y * z[0, d, t] / (1 + torch.exp(-z[0, d, t]))
            found = solve(problem, None, True, torch.float64)["out"][0, d, t]
            torch.testing.assert_close(found, expected)


@each_backend
@pytest.mark.parametrize("options", [True, False], ids=["all options", "no options"])
@pytest.mark.parametrize(
    ("B", "C"),
    [
        ("tokens", "tokens"),
        ("groups", "groups"),
        ("constant", "constant"),
        ("tokens", "constant"),
        ("constant", "tokens"),
        ("groups", "constant"),
        ("constant", "groups"),
    ],
)
def test_values_and_gradients_agree_with_float64_for_every_shape_of_B_and_C(
    backend: str, B: str, C: str, options: bool
) -> None:
    assert worst_error(make_problem(2, 96, 37, 8, B, C, 2, options), backend, options) < 1e-5


@each_backend
@pytest.mark.parametrize(
    ("channels", "tokens", "states"),
    [(48, 33, 16), (64, 1, 4), (80, 70, 1), (5, 32, 3), (1, 2, 1), (192, 65, 16)],
)
def test_sizes_that_fill_no_block_are_right(backend: str, channels: int, tokens: int, states: int) -> None:
    assert worst_error(make_problem(2, channels, tokens, states), backend, True) < 1e-5


@each_backend
def test_groups_narrower_than_a_register_are_right(backend: str) -> None:
    assert worst_error(make_problem(2, 20, 9, 4, "groups", "groups", 5), backend, True) < 1e-5


@each_backend
def test_float64_is_computed_in_float64(backend: str) -> None:
    assert worst_error(make_problem(2, 24, 40, 5), backend, True, torch.float64) < 1e-12


@each_backend
def test_half_precision_comes_back_as_half_precision_with_a_full_state(backend: str) -> None:
    problem = make_problem(2, 32, 20, 4)
    exact = solve(problem, None, True)["out"]
    half = {name: t.bfloat16() if name in ("u", "delta", "B", "C", "z") else t for name, t in problem.items()}
    out, last = selective_scan(**half, delta_softplus=True, return_last_state=True, backend=backend)
    assert out.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    assert float((out.float() - exact).abs().max() / exact.abs().max()) < 0.02


@each_backend
def test_autocast_does_not_lower_the_precision_of_the_state(backend: str) -> None:
    problem = make_problem(1, 32, 20, 4)
    plain = selective_scan(**problem, delta_softplus=True, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(selective_scan(**problem, delta_softplus=True, backend=backend), plain)


@each_backend
def test_slow_decays_keep_their_precision_over_thousands_of_tokens(backend: str) -> None:
    problem = make_problem(1, 16, 3000, 2, options=False)
    problem["delta"] = torch.full_like(problem["delta"], 1e-3)
    problem["A"] = torch.full_like(problem["A"], -0.5)
    problem["u"] = problem["u"].abs()
    problem["B"], problem["C"] = problem["B"].abs(), problem["C"].abs()
    assert worst_error(problem, backend, False) < 5e-5


@each_backend
@pytest.mark.parametrize("decay", [-1000.0, -87.5, -1e-30, 0.0, 2.0])
def test_extreme_decays_are_right(backend: str, decay: float) -> None:
    problem = make_problem(1, 16, 4, 4, options=False)
    problem["delta"] = torch.ones_like(problem["delta"])
    problem["A"] = torch.full_like(problem["A"], decay)
    assert worst_error(problem, backend, False) < 1e-5


@each_backend
def test_softplus_keeps_five_digits_even_where_it_vanishes(backend: str) -> None:
    steps = torch.linspace(-80, 80, 4096).view(1, 4096, 1)
    one = torch.ones_like(steps)
    B = torch.ones(1, 1, 1)
    out = selective_scan(one, steps, -one[0], B, B, delta_softplus=True, backend=backend)
    exact = torch.nn.functional.softplus(steps.double(), threshold=100)
    assert float(((out - exact) / exact).abs().max()) < 1e-5


@each_backend
def test_a_damaged_number_is_not_hidden(backend: str) -> None:
    problem = make_problem(1, 16, 8, 4)
    problem["u"][0, 3, 2] = float("nan")
    out = selective_scan(**problem, delta_softplus=True, backend=backend)
    assert out[0, 3, 2:].isnan().all()
    assert not out[0, 4].isnan().any()


@each_backend
def test_token_major_views_give_token_major_results_and_gradients(backend: str) -> None:
    problem = make_problem(2, 32, 10, 4)
    u = problem["u"].transpose(1, 2).contiguous().requires_grad_()
    out = selective_scan(**{**problem, "u": u.transpose(1, 2)}, delta_softplus=True, backend=backend)
    assert out.transpose(1, 2).is_contiguous()
    assert torch.autograd.grad(out.sum(), u)[0].is_contiguous()


@each_backend
def test_only_the_asked_gradients_are_given(backend: str) -> None:
    problem = make_problem(1, 16, 5, 4)
    problem["A"].requires_grad_()
    out = selective_scan(**problem, delta_softplus=True, backend=backend)
    out.sum().backward()
    assert problem["A"].grad is not None
    assert problem["u"].grad is None


@each_backend
def test_the_same_bits_come_out_whatever_the_number_of_threads(backend: str) -> None:
    if backend == "torch":
        pytest.skip("torch's own sums depend on its threads")
    problem = make_problem(3, 144, 50, 16)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            results.append(solve(problem, backend, True))
    finally:
        torch.set_num_threads(before)
    for name, first in results[0].items():
        # Sums over samples and blocks are torch's; none of these is large enough to be split over threads.
        assert all(torch.equal(first, other[name]) for other in results[1:]), name


def test_several_python_threads_can_scan_at_once() -> None:
    problem = make_problem(2, 64, 40, 8)
    expected = selective_scan(**problem, delta_softplus=True)
    found: list[Tensor] = []

    def work() -> None:
        for _ in range(5):
            found.append(selective_scan(**problem, delta_softplus=True))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 20
    assert all(torch.equal(out, expected) for out in found)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("delta", (2, 32, 9)),
        ("A", (31, 4)),
        ("B", (2, 3, 10)),
        ("C", (2, 3, 4, 10)),
        ("D", (4,)),
        ("z", (32, 10)),
    ],
)
def test_a_shape_that_does_not_fit_is_named(name: str, shape: tuple[int, ...]) -> None:
    problem = make_problem(2, 32, 10, 4)
    problem[name] = torch.zeros(shape)
    with pytest.raises(ValueError, match=rf"^{name} must .*{shape[0]}"):
        selective_scan(**problem)


def test_complex_numbers_are_refused_by_name() -> None:
    problem = make_problem(2, 32, 10, 4)
    problem["A"] = problem["A"].to(torch.complex64)
    with pytest.raises(TypeError, match=r"real floating-point tensors; A is torch\.complex64"):
        selective_scan(**problem)


def test_the_numba_exponential_is_exact_at_zero_and_saturates_at_both_ends() -> None:
    numba_lanes = pytest.importorskip("DiffMaCore.ops.scan.numba_lanes")
    from numba import njit

    @njit
    def powers(like, addresses):  # type: ignore[no-untyped-def]
        x, y = numba_lanes.pointers(like, addresses)
        places = numba_lanes.steps(0, numba_lanes.width_of(x))
        numba_lanes.store(y, places, numba_lanes.exp2(numba_lanes.load(x, places)))

    ends = torch.tensor([0.0, -0.0, -1e-30, -1e-9, 1e-9, -200.0, -1e30, -torch.inf, 200.0, torch.inf, torch.nan, -1.0])
    x = torch.cat([ends, torch.linspace(-20, 20, 64 - len(ends))])
    y = torch.full_like(x, 5.0)
    count = 4 * numba_lanes.REGISTER_BYTES // 4
    for first in range(0, len(x), count):
        powers(np.float32(0), (x[first:].data_ptr(), y[first:].data_ptr()))
    expected = [1, 1, 1, 1, 1, 0, 0, 0, torch.inf, torch.inf, torch.nan, 0.5]
    torch.testing.assert_close(y[: len(ends)], torch.tensor(expected), rtol=6e-8, atol=0, equal_nan=True)
    assert torch.equal(y[:2], torch.ones(2))
    torch.testing.assert_close(y[len(ends) :].double(), torch.exp2(x[len(ends) :].double()), rtol=5e-7, atol=0)
