"""Every epoch is a permutation, and any position can be asked for without the ones before."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from fewstep.data.order import grouped_rows_at, rows_at


def test_each_epoch_visits_every_row_once_in_another_order() -> None:
    first, second = rows_at(0, 20, 20), rows_at(20, 20, 20)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert first.tolist() != second.tolist()


def test_batches_do_not_depend_on_how_the_run_was_cut() -> None:
    whole = rows_at(0, 96, 20)
    parts = torch.cat([rows_at(start, 16, 20) for start in range(0, 96, 16)])
    assert whole.tolist() == parts.tolist()
    assert rows_at(0, 20, 20, seed=1).tolist() != whole[:20].tolist()


@pytest.mark.parametrize(("sizes", "batch_size"), [((50, 7, 1), 8), ((3, 2), 16), ((40,), 8), ((5, 5, 5, 5), 1)])
def test_batches_are_of_one_group_and_every_row_is_seen_equally_often(sizes: tuple[int, ...], batch_size: int) -> None:
    """In as many epochs as there are pictures in a batch every group fills whole batches: all is even then."""
    groups = list(torch.arange(sum(sizes)).split(list(sizes)))
    seen: Counter[int] = Counter()
    for step in range(3 * sum(sizes)):
        rows = grouped_rows_at(step * batch_size, batch_size, groups).tolist()
        assert len(rows) == batch_size
        assert any(set(rows) <= set(group.tolist()) for group in groups)
        seen.update(rows)
    assert set(seen.values()) == {3 * batch_size}


def test_grouped_batches_come_in_another_order_each_epoch_and_by_seed() -> None:
    groups = list(torch.arange(64).split([32, 32]))
    epochs = [[grouped_rows_at(place, 4, groups, seed=s).tolist() for place in range(e * 64, (e + 1) * 64, 4)]
              for e, s in ((0, 0), (1, 0), (0, 1))]  # fmt: skip
    for one in epochs:
        assert sorted(row for rows in one for row in rows) == list(range(64))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert len({min(rows) < 32 for rows in epochs[0][:12]}) == 2  # the groups take turns
