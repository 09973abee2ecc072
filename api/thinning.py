"""A curve with fewer points that looks the same."""

from collections.abc import Sequence


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[int]:
    """Choose at most `most` (>= 3) points of a curve, by largest triangles (LTTB); return their places.

    The first and the last are always chosen. The rest is cut into runs of equal length, and of each run the point is
    taken that spans the largest triangle with the one chosen before it and the mean of the next run (Steinarsson 2013,
    "Downsampling time series for visual representation", section 4.2). So a peak stays a peak of its own height, which
    a mean would flatten; what is shown was measured.

    Args:
        points: x, ascending, and y of each.
        most: points to keep.
    """
    count = len(points)
    if count <= most:
        return list(range(count))
    starts = [1 + round(run * (count - 2) / (most - 2)) for run in range(most - 1)]
    chosen = [0]
    for start, end, next_end in zip(starts, starts[1:], [*starts[2:], count], strict=False):
        ahead = points[end:next_end]
        mean_x = sum(x for x, _ in ahead) / len(ahead)
        mean_y = sum(y for _, y in ahead) / len(ahead)
        x0, y0 = points[chosen[-1]]
        chosen.append(
            max(
                range(start, end),
                key=lambda place: abs(
                    (x0 - mean_x) * (points[place][1] - y0) - (x0 - points[place][0]) * (mean_y - y0)
                ),
            )
        )
    return [*chosen, count - 1]
