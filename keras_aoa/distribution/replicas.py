"""Splits batches among replicas."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Replicas:
    """The replicas that a process feeds: from index `first`, `count` out of `total` replicas."""

    total: int = 1
    first: int = 0
    count: int = 1

    def parts(self, rows, batch_size):
        """Split batches so that every replica gets the same number of rows.

        A batch with too few rows is filled with copies of its first row. `real` is false for copied
        rows. All batches therefore have the same shape, and the training step is compiled only
        once. With a single replica, the rows stay unchanged.

        Args:
            rows: `(n,)` integers.
            batch_size: Number of rows in a batch, over all replicas together. The last batch may
                have fewer rows.

        Returns:
            Tuple of
            - `rows` of this process's replicas, ordered by batch, then by replica;
            - `real`, booleans of the same shape, false for copied rows;
            - the number of rows that each replica gets from a batch.
        """
        if self.total == 1:
            return rows, np.ones(len(rows), bool), batch_size
        each, batches = -(-batch_size // self.total), -(-len(rows) // batch_size)
        indices = np.arange(batches)[:, None] * batch_size + np.arange(each * self.total)
        real = (np.arange(each * self.total) < batch_size) & (indices < len(rows))
        indices = np.where(real, indices, indices[:, :1])
        own = slice(self.first * each, (self.first + self.count) * each)
        return rows[indices[:, own].ravel()], real[:, own].ravel(), each


ONE_REPLICA = Replicas()
