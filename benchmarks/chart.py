"""Bars of requests a second on a logarithmic scale, as an SVG file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

WIDTH, LEFT, RIGHT, ROW, BAR, TOP, BOTTOM = 760, 300, 70, 30, 18, 44, 26
OURS, OTHERS = "#0b6e4f", "#9aa5b1"


def svg(rates: Mapping[str, float], *, ours: str, caption: str) -> str:
    """Draw one bar a server, the fastest on top.

    Args:
        rates: requests a second by title, all above 0.
        ours: the title to set off.
        caption: stands above.
    """
    low = 10.0 ** math.floor(math.log10(min(rates.values())))
    high = 10.0 ** math.ceil(math.log10(max(rates.values())))
    high = max(high, 10 * low)
    scale = (WIDTH - LEFT - RIGHT) / math.log10(high / low)
    bottom = TOP + ROW * len(rates)
    parts = [f'<text x="8" y="20" font-weight="bold">{escape(caption)}</text>']
    for power in range(round(math.log10(high / low)) + 1):
        x, tick = LEFT + scale * power, low * 10**power
        parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{TOP - 8}" y2="{bottom}" stroke="#e4e7eb"/>')
        parts.append(f'<text x="{x:.0f}" y="{bottom + 16}" text-anchor="middle">{tick:,.0f}</text>')
    for i, (title, rate) in enumerate(sorted(rates.items(), key=lambda item: -item[1])):
        y, length = TOP + ROW * i, scale * math.log10(rate / low)
        colour = OURS if title == ours else OTHERS
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(title)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 13}">{rate:,.0f}</text>')
    height = bottom + BOTTOM
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" role="img" font-family="sans-serif" font-size="12" fill="#1f2933">\n'
        f"<title>{escape(caption)}</title>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n{body}\n</svg>\n'
    )
