"""From a pose to the picture: forward kinematics and the drawing of the figure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, radians, sin

import cv2
import numpy as np

from tal_core.data.demo.actions import Pose

# Lengths and widths in body heights.
THIGH = SHIN = 0.245
TORSO, NECK, HEAD = 0.29, 0.115, 0.078
UPPER_ARM, FOREARM = 0.165, 0.155
SHOULDER, HIP = 0.105, 0.055
_ELEVATION = radians(9)  # the camera looks slightly down
_SHIFT = 4  # cv2 draws at 1/16 pixel

Point = tuple[float, float, float]
Spot = tuple[float, float]  # in the picture
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Colors:
    """RGB colours of one figure."""

    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    shoes: Color


def joints(pose: Pose, facing: float) -> dict[str, Point]:
    """Places of the joints in body heights: x to the viewer's right, y up from the floor, z to the viewer.

    The lower foot stands on the floor, raised by the pose's ``lift``.
    """
    hips = (0.0, 0.0, 0.0)
    places = {"hips": hips}
    chest = _along(hips, pose["torso_f"], pose["torso_a"], 1, -TORSO)
    places["chest"] = chest
    places["head"] = _along(
        chest, (pose["head_f"] + pose["torso_f"]) / 2, pose["head_a"] + pose["torso_a"], 1, -NECK
    )
    for side, out in (("l", 1), ("r", -1)):
        shoulder = (chest[0] + out * SHOULDER, chest[1], chest[2])
        elbow = _along(shoulder, pose[f"{side}_upper_f"], pose[f"{side}_upper_a"], out, UPPER_ARM)
        hip = (out * HIP, 0.0, 0.0)
        knee = _along(hip, pose[f"{side}_thigh_f"], pose[f"{side}_thigh_a"], out, THIGH)
        places |= {
            f"{side}_shoulder": shoulder,
            f"{side}_elbow": elbow,
            f"{side}_hand": _along(elbow, pose[f"{side}_fore_f"], pose[f"{side}_fore_a"], out, FOREARM),
            f"{side}_hip": hip,
            f"{side}_knee": knee,
            f"{side}_foot": _along(knee, pose[f"{side}_shin_f"], pose[f"{side}_shin_a"], out, SHIN),
        }
    foot = places["l_foot"], places["r_foot"]
    floor = min(p[1] for p in foot) - pose["lift"]
    for side in "lr":
        x, y, z = places[f"{side}_foot"]
        places[f"{side}_toe"] = (x, y - 0.012, z + 0.062)
    # The standing foot stays where it is: what the legs do moves the hips, not the floor.
    ahead = sum(p[2] for p in foot) / 2 * 0.5
    yaw = radians(facing + pose["yaw"])
    return {name: _turn((x, y - floor, z - ahead), yaw) for name, (x, y, z) in places.items()}


def _along(start: Point, forward: float, outward: float, side: int, length: float) -> Point:
    """The end of a limb; see ``actions`` for the angles."""
    f, a = radians(forward), radians(outward)
    x, y, z = start
    return x + length * side * sin(a), y - length * cos(a) * cos(f), z + length * cos(a) * sin(f)


def _turn(point: Point, yaw: float) -> Point:
    x, y, z = point
    return x * cos(yaw) + z * sin(yaw), y, z * cos(yaw) - x * sin(yaw)


def draw_figure(
    canvas: np.ndarray, places: dict[str, Point], foot: tuple[float, float], height: float, colors: Colors
) -> None:
    """Draw onto ``canvas`` (H, W, 3) uint8 in place; ``foot`` is the floor below the hips. All in pixels."""

    def spot(name: str) -> tuple[float, float]:
        x, y, z = places[name]
        return foot[0] + height * x, foot[1] - height * (y * cos(_ELEVATION) - z * sin(_ELEVATION))

    def limb(start: str, end: str, width: float, color: Color) -> None:
        depth = (places[start][2] + places[end][2]) / 2
        parts.append((depth, lambda: _line(canvas, spot(start), spot(end), width * height, color)))

    parts: list[tuple[float, Callable[[], None]]] = []
    for side in "lr":
        limb(f"{side}_foot", f"{side}_toe", 0.045, colors.shoes)
        limb(f"{side}_knee", f"{side}_foot", 0.056, colors.trousers)
        limb(f"{side}_hip", f"{side}_knee", 0.070, colors.trousers)
        limb(f"{side}_shoulder", f"{side}_elbow", 0.052, colors.shirt)
        limb(f"{side}_elbow", f"{side}_hand", 0.042, colors.skin)
        hand = f"{side}_hand"
        draw_hand = functools.partial(_disc, canvas, spot(hand), 0.028 * height, colors.skin)
        parts.append((places[hand][2] + 0.01, draw_hand))
    corners = ("l_shoulder", "r_shoulder", "r_hip", "l_hip")
    depth = (places["chest"][2] + places["hips"][2]) / 2
    parts.append((depth, lambda: _torso(canvas, [spot(c) for c in corners], 0.075 * height, colors.shirt)))
    parts.append((places["head"][2], lambda: _head(canvas, places, spot, height, colors)))
    for _, draw in sorted(parts, key=lambda part: part[0]):
        draw()


def draw_shadow(canvas: np.ndarray, foot: tuple[float, float], height: float, lift: float) -> None:
    """Darken the floor under the figure, less the higher it is."""
    x, y = foot
    rx, ry = 0.17 * height * (1 - lift), 0.035 * height
    x0, x1 = max(0, int(x - rx - 2)), min(canvas.shape[1], int(x + rx + 3))
    y0, y1 = max(0, int(y - ry - 2)), min(canvas.shape[0], int(y + ry + 3))
    if x0 >= x1 or y0 >= y1:
        return
    v, u = np.mgrid[y0:y1, x0:x1]
    inside = 1 - ((u - x) / rx) ** 2 - ((v - y) / ry) ** 2
    shade = 1 - 0.45 * np.clip(inside, 0, 1)[..., None]
    canvas[y0:y1, x0:x1] = (canvas[y0:y1, x0:x1] * shade).astype(np.uint8)


def _fixed(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0] * 2**_SHIFT), round(point[1] * 2**_SHIFT)


def _darker(color: Color) -> Color:
    red, green, blue = (int(c * 0.55) for c in color)
    return red, green, blue


def _line(canvas: np.ndarray, start: Spot, end: Spot, width: float, color: Color) -> None:
    """A limb: a thick line with a darker rim."""
    a, b = _fixed(start), _fixed(end)
    cv2.line(canvas, a, b, _darker(color), max(1, round(width) + 2), cv2.LINE_AA, _SHIFT)
    cv2.line(canvas, a, b, color, max(1, round(width)), cv2.LINE_AA, _SHIFT)


def _disc(canvas: np.ndarray, centre: Spot, radius: float, color: Color) -> None:
    """A dot with a darker rim."""
    _dot(canvas, centre, radius + 1, _darker(color))
    _dot(canvas, centre, radius, color)


def _dot(canvas: np.ndarray, centre: Spot, radius: float, color: Color) -> None:
    cv2.circle(canvas, _fixed(centre), round(radius * 2**_SHIFT), color, -1, cv2.LINE_AA, _SHIFT)


def _torso(canvas: np.ndarray, corners: list[Spot], width: float, color: Color) -> None:
    outline = np.array([_fixed(c) for c in corners], np.int32)
    width = max(1, round(width))
    cv2.polylines(canvas, [outline], True, _darker(color), width + 2, cv2.LINE_AA, _SHIFT)
    cv2.polylines(canvas, [outline], True, color, width, cv2.LINE_AA, _SHIFT)
    cv2.fillPoly(canvas, [outline], color, cv2.LINE_AA, _SHIFT)


def _head(
    canvas: np.ndarray, places: dict[str, Point], spot: Callable[[str], Spot], height: float, colors: Colors
) -> None:
    """Head with hair behind and, when it looks at the viewer, eyes."""
    _line(canvas, spot("chest"), spot("head"), 0.045 * height, colors.skin)
    x, y = spot("head")
    radius = HEAD * height
    lx, _, lz = places["l_shoulder"]
    rx, _, rz = places["r_shoulder"]
    # The face looks along the normal of the shoulders.
    side = (rz - lz) / (2 * SHOULDER)
    front = (lx - rx) / (2 * SHOULDER)
    _disc(canvas, (x, y), radius, colors.hair)
    if front > -0.3:
        face = (x + 0.32 * radius * side, y + 0.22 * radius)
        _dot(canvas, face, 0.74 * radius, colors.skin)
        for eye in (-0.3, 0.3):
            aside = radius * (0.35 * side + eye * max(front, 0.15))
            _dot(canvas, (face[0] + aside, face[1]), 0.1 * radius, (30, 25, 25))
