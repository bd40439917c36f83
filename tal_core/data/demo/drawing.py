"""The pictures of one demo video: room, camera, light, figure and noise."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, sin

import cv2
import numpy as np

from tal_core.data.demo.figure import Colors, draw_figure, draw_shadow, joints
from tal_core.data.demo.script import Script, pose_at

WIDTH, HEIGHT = 160, 120
_FINE = 2  # drawn at twice the size, then averaged down
_MARGIN = 0.2  # how far the room goes on beyond the frame, in frame sizes


@dataclass(frozen=True)
class Looks:
    """What one video looks like; drifts as (amplitude in frame heights, period in seconds, phase)."""

    room: np.ndarray  # (H, W, 3) uint8, larger than the frame
    colors: Colors
    noise: np.ndarray  # (N, HEIGHT, WIDTH, 3) int8
    floor: float  # where the figure stands, in frame heights
    drifts: tuple[tuple[float, float, float], ...]
    growth: tuple[float, float, float]
    light: tuple[float, float, float]


def draw_frames(script: Script, seed: int) -> Iterator[np.ndarray]:
    """Yield the frames of a video, (HEIGHT, WIDTH, 3) uint8 RGB."""
    rng = np.random.default_rng([seed, script.index, 1])
    looks = choose_looks(rng, script)
    for number in range(script.num_frames):
        picture = draw_frame(script, looks, float(number / script.fps))
        which, dy, dx = rng.integers((len(looks.noise), HEIGHT, WIDTH))
        grain = np.roll(looks.noise[which], (int(dy), int(dx)), axis=(0, 1))
        yield np.clip(picture.astype(np.int16) + grain, 0, 255).astype(np.uint8)


def draw_frame(script: Script, looks: Looks, seconds: float) -> np.ndarray:
    """One frame without its noise."""
    width, height = WIDTH * _FINE, HEIGHT * _FINE
    dx, dy = (sum(_wave(d, seconds) for d in looks.drifts[k::2]) * height for k in (0, 1))
    zoom = 1 + _wave(looks.growth, seconds) * 0.25
    # What the camera sees of the room: frame point p shows room point zoom * (p - centre) + centre + drift.
    left = looks.room.shape[1] / 2 - zoom * width / 2 + dx
    top = looks.room.shape[0] / 2 - zoom * height / 2 + dy
    matrix = np.array([[zoom, 0, left], [0, zoom, top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    canvas = cv2.warpAffine(looks.room, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
    pose, x = pose_at(script, seconds)
    size = script.height * height * (1 + _wave(looks.growth, seconds)) / zoom
    foot = (width * x - dx / zoom, height * looks.floor - dy / zoom)
    draw_shadow(canvas, foot, size, pose["lift"])
    draw_figure(canvas, joints(pose, script.facing), foot, size, looks.colors)
    picture = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(picture, alpha=1 + _wave(looks.light, seconds))


def _wave(drift: tuple[float, float, float], seconds: float) -> float:
    amplitude, period, phase = drift
    return amplitude * sin(2 * pi * seconds / period + phase)


def choose_looks(rng: np.random.Generator, script: Script) -> Looks:
    """Colours, room, camera and noise of a video."""
    hue = float(rng.uniform())
    floor = float(rng.uniform(0.88, 0.96))
    drifts = [(float(rng.uniform(0.004, 0.035)), float(rng.uniform(4, 14)), _phase(rng)) for _ in range(4)]
    tremor = [(float(rng.uniform(0, 0.003)), float(rng.uniform(0.3, 0.8)), _phase(rng)) for _ in range(2)]
    # The grown figure must fit below the top of the frame even with raised arms and in a jump.
    growth = min(float(rng.uniform(0.03, 0.14)), max(0.03, 0.95 - script.height))
    strength = float(rng.uniform(3, 9))
    noise = np.clip(rng.normal(0, strength, (6, HEIGHT, WIDTH, 3)), -100, 100).astype(np.int8)
    return Looks(
        room=_room(rng, hue, floor),
        colors=_colors(rng, hue),
        noise=noise,
        floor=floor,
        drifts=tuple(drifts + tremor),
        growth=(growth, float(rng.uniform(9, 25)), _phase(rng)),
        light=(float(rng.uniform(0, 0.06)), float(rng.uniform(2, 9)), _phase(rng)),
    )


def _phase(rng: np.random.Generator) -> float:
    return float(rng.uniform(0, 2 * pi))


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue


def _colors(rng: np.random.Generator, room_hue: float) -> Colors:
    """Clothes whose hues keep away from the room's."""
    skin = float(rng.uniform(0, 1))
    shirt = room_hue + float(rng.uniform(0.25, 0.75))
    trousers = room_hue + float(rng.uniform(0.25, 0.75))
    return Colors(
        skin=(round(255 - 133 * skin), round(219 - 143 * skin), round(188 - 140 * skin)),
        hair=_rgb(
            float(rng.uniform(0.02, 0.12)), float(rng.uniform(0.3, 0.8)), float(rng.uniform(0.12, 0.75))
        ),
        shirt=_rgb(shirt, float(rng.uniform(0.55, 0.95)), float(rng.uniform(0.6, 1))),
        trousers=_rgb(trousers, float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.25, 0.6))),
        shoes=_rgb(float(rng.uniform()), 0.2, float(rng.choice([0.15, 0.9]))),
    )


def _room(rng: np.random.Generator, hue: float, floor: float) -> np.ndarray:
    """A wall and a floor with texture and clutter, larger than the frame by the margin on each side."""
    width, height = (round(side * _FINE * (1 + 2 * _MARGIN)) for side in (WIDTH, HEIGHT))
    horizon = round(height * (_MARGIN + floor - 0.16) / (1 + 2 * _MARGIN))
    room = np.empty((height, width, 3), np.float32)
    light, dark = rng.uniform(0.55, 0.9), rng.uniform(0.35, 0.6)
    top, bottom = (np.array(_rgb(hue, 0.28, v), np.float32) for v in (light, 0.8 * light))
    ramp = np.linspace(0, 1, horizon, dtype=np.float32)[:, None, None]
    room[:horizon] = top + (bottom - top) * ramp
    room[horizon:] = _rgb(hue + float(rng.uniform(-0.12, 0.12)), 0.4, dark)
    for _ in range(int(rng.integers(6, 16))):
        _furnish(rng, room, hue, horizon)
    for grain in (24, 7, 2):
        speckle = rng.normal(0, 1, (height // grain + 2, width // grain + 2)).astype(np.float32)
        stretched = cv2.resize(speckle, (width, height), interpolation=cv2.INTER_CUBIC)
        room += (rng.uniform(3, 11) * stretched)[..., None]
    return np.clip(cv2.GaussianBlur(room, (0, 0), 0.8), 0, 255).astype(np.uint8)


def _furnish(rng: np.random.Generator, room: np.ndarray, hue: float, horizon: int) -> None:
    """One piece of clutter: a framed picture, a shelf, a pole or a box on the floor."""
    width = room.shape[1]
    color = _rgb(
        hue + float(rng.uniform(-0.2, 0.2)), float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.2, 0.95))
    )
    rim = tuple(0.6 * c for c in color)
    x, y = int(rng.integers(0, width)), int(rng.integers(0, horizon))
    w, h = (int(v) for v in rng.integers(12, 80, 2))
    match int(rng.integers(5)):
        case 0:
            cv2.rectangle(room, (x, y), (x + w, min(y + h, horizon)), color, -1)
            cv2.rectangle(room, (x, y), (x + w, min(y + h, horizon)), rim, 3)
        case 1:
            cv2.rectangle(room, (x, y), (x + 2 * w, y + 6), color, -1)
        case 2:
            cv2.line(
                room,
                (x, 0),
                (x + int(rng.integers(-20, 20)), horizon),
                color,
                int(rng.integers(3, 9)),
                cv2.LINE_AA,
            )
        case 3:
            cv2.ellipse(room, (x, y), (w // 2, h // 2), 0, 0, 360, color, -1, cv2.LINE_AA)
            cv2.ellipse(room, (x, y), (w // 2, h // 2), 0, 0, 360, rim, 2, cv2.LINE_AA)
        case _:
            cv2.rectangle(room, (x, horizon - h // 2), (x + w, horizon + h // 3), color, -1)
            cv2.rectangle(room, (x, horizon - h // 2), (x + w, horizon + h // 3), rim, 3)
