"""Colours with a fixed meaning: one per class, one per outcome of a detection, the same on every page.

All of them stand out from a white and from a near-black background (contrast at least 1.75 and 2.8).
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

# Picked by a greedy search in OKLab for the largest smallest distance between any two of them, as seen
# with full colour vision, protanopia, deuteranopia and tritanopia (simulated after Machado et al., 2009).
PALETTE = (
    "#4C77CC",
    "#F2A448",
    "#359B75",
    "#C0B1FF",
    "#B53704",
    "#3CDAB4",
    "#94468F",
    "#AD7C2F",
    "#576A4D",
    "#EB6CA8",
    "#9D80F7",
    "#42ACD2",
)
BACKGROUND = "#8C96A0"
"""Time under no segment, and classes that the dataset doesn't know."""

OUTCOME_COLORS = {
    "true positive": "#009E73",
    "double detection": "#56B4E9",
    "wrong label": "#CC79A7",
    "localization error": "#E69F00",
    "confusion error": "#8B6BB8",
    "background error": "#8C8C8C",
    "missed": "#D55E00",
}

ACCENT = "#2F8A98"
"""Whatever has no class: the studio's own teal."""

GRID = "rgba(128, 144, 160, 0.25)"
"""Lines behind a figure, visible in light and dark."""


def class_colors(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each class, by its place in alphabetical order.

    Beyond the palette's 12 the hues come again, first lighter, then darker and greyer; with that many
    classes a figure must name them too.
    """
    return {label: _color(index) for index, label in enumerate(sorted(set(labels)))}


def with_alpha(color: str, alpha: float) -> str:
    """``#RRGGBB`` as ``rgba(...)`` that lets what is behind it through."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha:g})"


def _color(index: int) -> str:
    base = PALETTE[index % len(PALETTE)]
    lightness_factor, saturation_factor = ((1.0, 1.0), (1.18, 0.75), (0.82, 0.7))[index // len(PALETTE) % 3]
    red, green, blue = (int(base[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    # Kept within the band that is readable on white and on near-black.
    lightness = lightness if lightness_factor == 1 else min(max(lightness * lightness_factor, 0.42), 0.74)
    channels = colorsys.hls_to_rgb(hue, lightness, saturation * saturation_factor)
    return "#" + "".join(f"{round(255 * channel):02X}" for channel in channels)
