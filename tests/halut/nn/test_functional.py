"""The look-up against a dense, literal form of the paper's equations, in double precision."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (pip install -e .[torch])")

from halut.nn import functional  # noqa: E402
from halut.nn.functional import look_up, nearest, nearest_sums, table_sums, walk  # noqa: E402

DEPTHS = range(1, 9)


def selection_and_paths(depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return S (K - 1, T) and H (K, K - 1) of equations 7 and 8 for one codebook."""
    n_prototypes = 2**depth
    selection = torch.zeros(n_prototypes - 1, depth, dtype=torch.float64)
    paths = torch.zeros(n_prototypes, n_prototypes - 1, dtype=torch.float64)
    for level in range(depth):
        for node in range(2**level):
            selection[2**level - 1 + node, level] = 1
    for leaf in range(n_prototypes):
        for level in range(depth):
            node = 2**level - 1 + (leaf >> (depth - level))
            paths[leaf, node] = 1 if leaf >> (depth - 1 - level) & 1 else -1
    return selection, paths


def literal(
    x: torch.Tensor, thresholds: torch.Tensor, tables: torch.Tensor, slope: torch.Tensor
) -> torch.Tensor:
    """Compute equations 7 to 10 with all their matrices; shapes as `look_up`'s."""
    selection, paths = selection_and_paths(x.shape[3])
    h = torch.einsum("nt,bgctl->bgcnl", selection, x) - thresholds[..., None]
    smooth = torch.tanh(torch.einsum("nt,gct->gcn", selection, slope)[..., None] * h)
    sign = torch.where(h > 0, 1.0, -1.0).double() + smooth - smooth.detach()
    soft = torch.softmax(torch.einsum("kn,bgcnl->bgckl", paths, sign), dim=3)
    hard = torch.nn.functional.one_hot(soft.argmax(dim=3), soft.shape[3]).movedim(-1, 3)
    code = hard + soft - soft.detach()
    return torch.einsum("bgckl,gckm->bgml", code, tables)


def problem(depth: int, groups: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(depth)
    n_items, codebooks, positions, outputs = 2, 3, 5, 4
    shapes = (
        (n_items, groups, codebooks, depth, positions),
        (groups, codebooks, 2**depth - 1),
        (groups, codebooks, 2**depth, outputs),
        (groups, codebooks, depth),
    )
    tensors = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    tensors[3] = tensors[3].abs() + 0.2
    return [tensor.requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("depth", DEPTHS)
def test_values_and_gradients_are_the_equations(depth: int) -> None:
    ours, theirs = problem(depth), problem(depth)
    sums, wanted = look_up(*ours), literal(*theirs)
    torch.testing.assert_close(sums, wanted, rtol=0, atol=1e-12)
    upstream = torch.randn_like(wanted)
    sums.backward(upstream)
    wanted.backward(upstream)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.grad is not None and other.grad.abs().max() > 0
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-10, atol=1e-12)


def test_a_wrong_gradient_would_be_seen() -> None:
    ours, theirs = problem(4), problem(4)
    upstream = torch.ones_like(literal(*theirs))
    look_up(*ours).backward(upstream)
    literal(theirs[0], theirs[1], theirs[2], 1.01 * theirs[3]).backward(upstream)
    assert not torch.allclose(ours[0].grad, theirs[0].grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("piece", [1, 100, 200, 1000])
def test_pieces_change_nothing(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = problem(3), problem(3)
    upstream = torch.randn_like(look_up(*whole))
    look_up(*whole).backward(upstream)
    monkeypatch.setattr(functional, "_PIECE", piece)
    look_up(*cut).backward(upstream)
    for one, other in zip(whole, cut, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-12)


def test_walk_by_hand() -> None:
    # Root looks at 0.5; its left child at 1, its right child at -1.
    thresholds = torch.tensor([[[0.5, 1.0, -1.0]]])
    x = torch.tensor([[0.5, 1.0], [0.5, 1.5], [0.6, -1.0], [0.6, 0.0], [torch.nan, torch.inf]])
    codes = walk(x.t()[None, None, None], thresholds)
    assert codes.flatten().tolist() == [0, 1, 2, 3, 1]


def test_table_sums_by_hand() -> None:
    tables = torch.tensor([[[[1.0, 10], [2, 20]], [[4, 40], [8, 80]]]])  # G=1 C=2 K=2 M=2
    codes = torch.tensor([[[[0, 1], [1, 1]]]], dtype=torch.uint8)  # B=1 G=1 C=2 L=2
    assert table_sums(codes, tables).tolist() == [[[[9, 10], [90, 100]]]]


def test_custom_operators_keep_torchs_rules() -> None:
    tensors = [tensor.detach().requires_grad_() for tensor in problem(2)]
    torch.library.opcheck(functional._look_up, (*tensors, [], 0))


def test_nearest_is_the_nearest() -> None:
    torch.manual_seed(0)
    x, centroids = torch.randn(2, 1, 3, 4, 6).double(), torch.randn(1, 3, 8, 4).double()
    codes = nearest(x, centroids)
    for b, c, p in itertools.product(range(2), range(3), range(6)):
        away = (x[b, 0, c, :, p] - centroids[0, c]).square().sum(dim=1)
        assert codes[b, 0, c, p] == away.argmin()
    tables = torch.randn(1, 3, 8, 5).double()
    sums = nearest_sums(x, centroids, tables, torch.tensor(1.0).double())
    torch.testing.assert_close(sums, table_sums(codes, tables))


def test_nearest_has_the_gradient_of_the_softmax() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 2, 3, 4).double().requires_grad_()
    centroids = torch.randn(1, 2, 4, 3).double().requires_grad_()
    tables, temperature = torch.randn(1, 2, 4, 5).double(), torch.tensor(0.7).double()
    upstream = torch.randn(1, 1, 5, 4).double()
    nearest_sums(x, centroids, tables, temperature).backward(upstream)
    mine = [x.grad.clone(), centroids.grad.clone()]
    x.grad = centroids.grad = None
    away = (x[:, :, :, None] - centroids[..., None]).square().sum(dim=4)
    soft = torch.softmax(-away / temperature, dim=3)
    torch.einsum("bgckl,gckm->bgml", soft, tables).backward(upstream)
    torch.testing.assert_close(mine, [x.grad, centroids.grad])
