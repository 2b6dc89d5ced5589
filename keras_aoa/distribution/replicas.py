"""Batches split among replicas."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Replicas:
    """Which of all replicas a process feeds: `count` of `total`, from `first` on."""

    total: int = 1
    first: int = 0
    count: int = 1

    def parts(self, rows, batch_size):
        """Split batches so that all replicas always get equally many rows.

        What a batch lacks is filled up with its first row, which is then not `real`. So one
        compiled step is enough for all batches. A single replica gets the rows as they are.

        Args:
            rows: `(n,)` integers.
            batch_size: Rows of a batch, over all replicas; the last may have fewer.

        Returns:
            `rows` of this process's replicas, one replica after the other, batch after batch;
            `real`, whether each counts; and how many in succession are one replica's.
        """
        if self.total == 1:
            return rows, np.ones(len(rows), bool), batch_size
        each, batches = -(-batch_size // self.total), -(-len(rows) // batch_size)
        places = np.arange(batches)[:, None] * batch_size + np.arange(each * self.total)
        real = (np.arange(each * self.total) < batch_size) & (places < len(rows))
        places = np.where(real, places, places[:, :1])
        own = slice(self.first * each, (self.first + self.count) * each)
        return rows[places[:, own].ravel()], real[:, own].ravel(), each


ONE_REPLICA = Replicas()
