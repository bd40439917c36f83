import re

import pytest

from tal_core.plots.colors import OUTCOME_COLORS, PALETTE, class_colors, with_alpha


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_a_class_keeps_its_colour_whatever_the_order_and_repeats():
    colors = class_colors(["wave", "jump", "bow", "jump"])
    assert colors == class_colors(["bow", "wave", "jump"])
    assert len(set(colors.values())) == 3


def test_thirty_classes_have_thirty_colours():
    colors = class_colors([f"class {i:02d}" for i in range(30)])
    assert len(set(colors.values())) == 30
    assert all(re.fullmatch("#[0-9A-F]{6}", color) for color in colors.values())


@pytest.mark.parametrize("background,least", [("#FFFFFF", 1.75), ("#11171D", 2.8)])
def test_palette_stands_out_in_light_and_dark(background, least):
    for color in [*PALETTE, *OUTCOME_COLORS.values()]:
        assert contrast(color, background) >= least, color


def test_with_alpha():
    assert with_alpha("#FF8000", 0.5) == "rgba(255, 128, 0, 0.5)"
