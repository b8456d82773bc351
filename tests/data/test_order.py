"""Every epoch is a permutation, and any position can be asked for without the ones before."""

from __future__ import annotations

import torch

from fewstep.data.order import rows_at


def test_each_epoch_visits_every_row_once_in_another_order() -> None:
    first, second = rows_at(0, 20, 20), rows_at(20, 20, 20)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert first.tolist() != second.tolist()


def test_batches_do_not_depend_on_how_the_run_was_cut() -> None:
    whole = rows_at(0, 96, 20)
    parts = torch.cat([rows_at(start, 16, 20) for start in range(0, 96, 16)])
    assert whole.tolist() == parts.tolist()
    assert rows_at(0, 20, 20, seed=1).tolist() != whole[:20].tolist()
