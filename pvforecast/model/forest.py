"""A quantile forest: extremely randomised trees whose leaves keep what was seen in them.

Geurts et al. 2006 (Machine Learning 63) for the trees, Meinshausen 2006 (JMLR 7) for their use as a distribution: the
forecast is the mean over the trees of the empirical distribution in the leaf that a row falls into. Fitted by
scikit-learn; kept and asked as plain arrays, so that a bundle holds no pickle and serving needs no scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from pvforecast.features import Features
from pvforecast.known import Floats

_AT_ONCE = 4_096  # rows whose distributions are held in memory together
_BINS = 100


@dataclass(frozen=True)
class QuantileForest:
    """A fitted forest.

    Attributes
    ----------
    roots : shape [trees], index of each tree's root node.
    column, threshold, left, right : shape [nodes]. A row goes left where its value <= threshold; `column` is -1 in a
        leaf, whose `left` is then its number.
    edges : shape [bins + 1], ascending: the target's range in bins that hold about as many rows each.
    offsets : shape [leaves + 1]: a leaf's entries in `bins` and `shares` are those from its offset to the next.
    bins, shares : shape [entries], a bin that holds rows of the leaf, and their share of its weight (units of 1/65535).
    filled : shape [columns], what stands in for a missing value.
    """

    roots: npt.NDArray[np.int32]
    column: npt.NDArray[np.int16]
    threshold: npt.NDArray[np.float32]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    edges: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.int32]
    bins: npt.NDArray[np.uint8]
    shares: npt.NDArray[np.uint16]
    filled: npt.NDArray[np.float32]

    def quantiles(self, features: Features, levels: tuple[float, ...]) -> Floats:
        """Quantiles of the target, ascending along the last axis. `features` has shape [n, columns]; [n, levels]."""
        parts = [self._quantiles(features[i : i + _AT_ONCE], levels) for i in range(0, len(features), _AT_ONCE)]
        return np.concatenate(parts) if parts else np.zeros((0, len(levels)))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What it consists of, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def _quantiles(self, features: Features, levels: tuple[float, ...]) -> Floats:
        reached = self._distribution(self._leaves(fill(features, self.filled)))
        result = np.empty((len(features), len(levels)))
        for at, level in enumerate(levels):
            # The bin in which the distribution passes the level, and how far into it.
            upper = np.minimum((reached < level).sum(axis=1), len(self.edges) - 1)
            lower = np.maximum(upper - 1, 0)
            rows = np.arange(len(features))
            below, above = reached[rows, lower], reached[rows, upper]
            within = np.where(above > below, (level - below) / np.where(above > below, above - below, 1.0), 0.0)
            result[:, at] = self.edges[lower] + np.clip(within, 0.0, 1.0) * (self.edges[upper] - self.edges[lower])
        return result

    def _distribution(self, leaves: npt.NDArray[np.int32]) -> Floats:
        """Mean over the trees of what lies below each edge. `leaves` has shape [n, trees]; [n, edges]."""
        flat = leaves.ravel()
        first, count = self.offsets[flat], self.offsets[flat + 1] - self.offsets[flat]
        entry = np.repeat(first - np.append(0, np.cumsum(count)[:-1]), count) + np.arange(count.sum())
        row = np.repeat(np.repeat(np.arange(len(leaves)), leaves.shape[1]), count)
        n_bins = len(self.edges) - 1
        mass = np.bincount(row * n_bins + self.bins[entry], self.shares[entry], len(leaves) * n_bins)
        reached = np.zeros((len(leaves), n_bins + 1))
        np.cumsum(mass.reshape(len(leaves), n_bins), axis=1, out=reached[:, 1:])
        return reached / reached[:, -1:]

    def _leaves(self, features: Features) -> npt.NDArray[np.int32]:
        """Number of the leaf that each row of features falls into in each tree. Shape [n, trees]."""
        node = np.broadcast_to(self.roots, (len(features), len(self.roots))).ravel().copy()
        row = np.repeat(np.arange(len(features)), len(self.roots))
        open_ = np.flatnonzero(self.column[node] >= 0)
        while len(open_):
            at = node[open_]
            low = features[row[open_], self.column[at]] <= self.threshold[at]
            node[open_] = np.where(low, self.left[at], self.right[at])
            open_ = open_[self.column[node[open_]] >= 0]
        leaves: npt.NDArray[np.int32] = self.left[node].reshape(len(features), len(self.roots))
        return leaves


def fill(features: Features, filled: npt.NDArray[np.float32]) -> Features:
    """Missing values replaced column by column."""
    return np.where(np.isnan(features), filled, features)


def fit(
    features: Features,
    target: Floats,
    weight: Floats | None = None,
    *,
    trees: int,
    min_leaf: int,
    max_leaves: int,
    max_features: float,
    seed: int,
) -> QuantileForest:
    """Grow a forest.

    Parameters
    ----------
    features : shape [n, columns]; a missing value is taken for the column's median.
    target : shape [n].
    weight : shape [n], how much each row counts; 1 by default.
    min_leaf, max_leaves : rows in a leaf at least, leaves of a tree at most.
    max_features : share of the columns that are tried at each split.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    with np.errstate(invalid="ignore"):
        known = ~np.isnan(features)
        filled = np.array([np.median(c[k]) if k.any() else 0.0 for c, k in zip(features.T, known.T, strict=True)])
    filled = filled.astype(np.float32)
    whole = fill(features, filled)
    grown = ExtraTreesRegressor(
        trees,
        min_samples_leaf=min_leaf,
        max_leaf_nodes=max_leaves if len(target) > max_leaves * min_leaf else None,
        max_features=max_features,
        n_jobs=2,
        random_state=seed,
    ).fit(whole, target, sample_weight=weight)
    edges = np.unique(np.concatenate([[0.0], np.quantile(target, np.linspace(0.0, 1.0, _BINS + 1)), [1.0]]))
    bins = np.clip(np.searchsorted(edges, target, side="left") - 1, 0, len(edges) - 2)
    n_bins = len(edges) - 1
    weight = np.ones(len(target)) if weight is None else weight

    roots, columns, thresholds, lefts, rights, counts, filled_bins, shares = [], [], [], [], [], [], [], []
    nodes = leaves = 0
    for estimator in grown.estimators_:
        tree = estimator.tree_
        leaf = tree.children_left < 0
        number = np.cumsum(leaf) - 1  # of each leaf, within its tree
        roots.append(nodes)
        columns.append(np.where(leaf, -1, tree.feature))
        thresholds.append(tree.threshold)
        lefts.append(np.where(leaf, leaves + number, tree.children_left + nodes))
        rights.append(np.where(leaf, -1, tree.children_right + nodes))
        n_leaves = int(leaf.sum())
        fallen = np.bincount(number[tree.apply(whole)] * n_bins + bins, weight, n_leaves * n_bins)
        fallen = fallen.reshape(n_leaves, n_bins)
        held = fallen > 0
        counts.append(held.sum(axis=1))
        filled_bins.append(np.nonzero(held)[1])
        share = fallen / np.maximum(fallen.sum(axis=1, keepdims=True), 1e-12)
        shares.append(np.maximum(np.round(share[held] * 65_535), 1))
        nodes += tree.node_count
        leaves += n_leaves
    return QuantileForest(
        np.array(roots, np.int32),
        np.concatenate(columns).astype(np.int16),
        np.concatenate(thresholds).astype(np.float32),
        np.concatenate(lefts).astype(np.int32),
        np.concatenate(rights).astype(np.int32),
        edges,
        np.append(0, np.cumsum(np.concatenate(counts))).astype(np.int32),
        np.concatenate(filled_bins).astype(np.uint8),
        np.concatenate(shares).astype(np.uint16),
        filled,
    )
