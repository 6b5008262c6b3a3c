"""Histograms as Prometheus has them."""

from __future__ import annotations

from collections.abc import Iterable


def cumulative(ends: Iterable[float], counts: Iterable[float]) -> list[tuple[str, float]]:
    """Upper ends and how many lie at or below them.

    Args:
        ends: in rising order, without the last, which is infinity.
        counts: one a bucket, and one above the last end.

    >>> cumulative((1.0, 2.5), (3, 0, 4))
    [('1.0', 3.0), ('2.5', 3.0), ('+Inf', 7.0)]
    """
    buckets, so_far = [], 0.0
    for end, count in zip((*map(str, ends), "+Inf"), counts, strict=True):
        so_far += float(count)
        buckets.append((end, so_far))
    return buckets


def quantile(ends: Iterable[float], counts: Iterable[float], q: float) -> float:
    """Where a share of the values lies, at most: linear within a bucket, whose lower end is 0 for the first.

    Values above the last end count as that end; of no values it is 0. The rule is that of Prometheus'
    `histogram_quantile`.

    >>> quantile((1.0, 2.0), (2, 2, 0), 0.75)
    1.5
    """
    held = list(counts)
    wanted, low = q * sum(held), 0.0
    for end, count in zip(ends, held, strict=False):
        if count and wanted <= count:
            return low + (end - low) * wanted / count
        wanted, low = wanted - count, end
    return low if sum(held) else 0.0
