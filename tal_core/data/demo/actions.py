"""How the figure moves: each action and fidget as joint angles over its phase.

A pose is a dict of joint angles in degrees. A limb hangs straight down at ``(f, a) = (0, 0)``; ``f`` swings
it forward and up, ``a`` outward and up; both are absolute: a forearm does not inherit its upper arm's angles.
``l`` and ``r`` are the figure's sides. ``torso`` and ``head`` stand upright at 0 and lean forward (``f``) or
sideways (``a``). ``yaw`` turns the figure, ``lift`` raises it off the floor (in body heights).

Each action is a function ``(phase 0..1, Style) -> pose``; joints it does not name keep idling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi, sin

Pose = dict[str, float]

RESTING: Pose = {
    "torso_f": 2, "torso_a": 0, "head_f": 4, "head_a": 0, "yaw": 0, "lift": 0,
    "l_upper_f": 2, "l_upper_a": 10, "l_fore_f": 14, "l_fore_a": 4,
    "r_upper_f": 2, "r_upper_a": 10, "r_fore_f": 14, "r_fore_a": 4,
    "l_thigh_f": 3, "l_thigh_a": 6, "l_shin_f": -3, "l_shin_a": 3,
    "r_thigh_f": 3, "r_thigh_a": 6, "r_shin_f": -3, "r_shin_a": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How one performance differs from another: its leading side, size, cycles (times repeated) and a manner
    0..1 that actions read as they like."""

    side: str
    amplitude: float
    cycles: int
    manner: float


@dataclass(frozen=True)
class Motion:
    """A way to move, how many seconds it takes (shortest, longest) and how often it repeats per second."""

    pose: Callable[[float, Style], Pose]
    seconds: tuple[float, float]
    rate: float = 0.0


def ease(x: float) -> float:
    """Smooth step from 0 to 1."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def keyed(x: float, keys: Sequence[tuple[float, float]]) -> float:
    """Smooth curve through ``(x, value)`` keys, flat at each key."""
    if x <= keys[0][0]:
        return keys[0][1]
    for (x0, v0), (x1, v1) in pairwise(keys):
        if x < x1:
            return v0 + (v1 - v0) * ease((x - x0) / (x1 - x0))
    return keys[-1][1]


def _arm(side: str, upper: tuple[float, float], fore: tuple[float, float]) -> Pose:
    return {
        f"{side}_upper_f": upper[0], f"{side}_upper_a": upper[1],
        f"{side}_fore_f": fore[0], f"{side}_fore_a": fore[1],
    }  # fmt: skip


def _leg(side: str, thigh: float, shin: float) -> Pose:
    return {f"{side}_thigh_f": thigh, f"{side}_shin_f": shin}


def _other(side: str) -> str:
    return "l" if side == "r" else "r"


def _cycle(phase: float, style: Style) -> float:
    """Phase 0..1 within the present repetition."""
    return (phase * style.cycles) % 1.0


def _swing(phase: float, style: Style) -> float:
    """-1..1, once per repetition."""
    return sin(2 * pi * phase * style.cycles)


def wave(phase: float, style: Style) -> Pose:
    """One arm up, the forearm swinging."""
    up = ease(phase / 0.15) * ease((1 - phase) / 0.15)
    height = 60 + 60 * style.manner
    fore = 150 + 32 * style.amplitude * _swing(phase, style) * up
    return _arm(style.side, (12, height), (10, fore)) | {"head_a": 4}


def stretch(phase: float, style: Style) -> Pose:
    """Both arms overhead, leaning from side to side."""
    lean = 20 * style.amplitude * keyed(phase, [(0.25, 0), (0.45, 1), (0.75, -1), (0.9, 0)])
    arms = _arm("l", (20, 150), (10, 172)) | _arm("r", (20, 150), (10, 172))
    return arms | {"torso_a": lean, "torso_f": -6, "head_f": -14}


def clap(phase: float, style: Style) -> Pose:
    """Hands meet before the chest again and again."""
    apart = 0.5 + 0.5 * cos(2 * pi * phase * style.cycles)
    raised = 45 + 30 * style.manner
    fore = (raised + 35, -48 + 62 * style.amplitude * apart)
    upper = (raised, 6 + 24 * apart)
    return _arm("l", upper, fore) | _arm("r", upper, fore)


def throw(phase: float, style: Style) -> Pose:
    """Hands meet as for a clap, one arm goes back, then fast forward."""
    side, size = style.side, style.amplitude
    keys = (0.22, 0.5, 0.66, 0.82)
    upper = (
        keyed(phase, list(zip(keys, (50, -20, 85 * size, 40), strict=True))),
        keyed(phase, list(zip(keys, (8, 85, 15, 0), strict=True))),
    )
    fore = (
        keyed(phase, list(zip(keys, (95, 10, 75 * size, 30), strict=True))),
        keyed(phase, list(zip(keys, (-45, 150, 10, -20), strict=True))),
    )
    other = (keyed(phase, [(0.22, 50), (0.5, 60), (0.7, -10)]), 12)
    twist = keyed(phase, [(0.2, 0), (0.5, 30), (0.68, -25), (1, 0)]) * (1 if side == "r" else -1)
    return (
        _arm(side, upper, fore)
        | _arm(_other(side), other, (other[0] + 30, keyed(phase, [(0.22, -45), (0.5, 0)])))
        | _leg(_other(side), keyed(phase, [(0.3, 3), (0.5, 35), (0.66, 22), (1, 3)]), -5)
        | {"torso_f": keyed(phase, [(0.2, 2), (0.5, -12), (0.7, 24 * size), (1, 2)]), "yaw": twist}
    )


def punch(phase: float, style: Style) -> Pose:
    """From a guard, one fist after the other shoots forward."""
    hits = phase * style.cycles
    side = style.side if int(hits) % 2 == 0 else _other(style.side)
    out = keyed(hits % 1.0, [(0.15, 0), (0.45, 1), (0.55, 1), (0.9, 0)]) * style.amplitude
    guard = _arm(_other(side), (28, 14), (128, -12))
    twist = 18 * out * (-1 if side == "r" else 1)
    return (
        guard
        | _arm(side, (28 + 60 * out, 14), (128 - 38 * out, -12))
        | {"torso_f": 4 + 10 * out, "yaw": twist}
    )


def kick(phase: float, style: Style) -> Pose:
    """One leg swings back, then up to the front."""
    size = style.amplitude
    thigh = keyed(phase, [(0, 3), (0.28, -22), (0.55, 82 * size), (1, 3)])
    shin = keyed(phase, [(0, -3), (0.3, -70), (0.45, -25), (0.58, 78 * size), (1, -3)])
    arms = _arm("l", (5, 35), (20, 28)) | _arm("r", (5, 35), (20, 28))
    return _leg(style.side, thigh, shin) | arms | {"torso_f": keyed(phase, [(0.2, 8), (0.55, -14), (1, 2)])}


def jump(phase: float, style: Style) -> Pose:
    """Crouch, fly, land."""
    x = _cycle(phase, style)
    crouch = keyed(x, [(0, 0), (0.28, 1), (0.42, 0), (0.66, 0), (0.78, 0.8), (1, 0)])
    flight = min(max((x - 0.4) / 0.32, 0), 1)
    arms = keyed(x, [(0, 0), (0.28, -35), (0.5, 130 * style.amplitude), (1, 0)])
    return (
        _leg("l", 3 + 48 * crouch, -3 - 42 * crouch)
        | _leg("r", 3 + 48 * crouch, -3 - 42 * crouch)
        | _arm("l", (arms, 14), (arms + 10, 8))
        | _arm("r", (arms, 14), (arms + 10, 8))
        | {"lift": 0.26 * style.amplitude * 4 * flight * (1 - flight), "torso_f": 3 + 22 * crouch}
    )


def squat(phase: float, style: Style) -> Pose:
    """Down with bent knees and back up."""
    x = _cycle(phase, style)
    down = keyed(x, [(0, 0), (0.4, 1), (0.55, 1), (1, 0)]) * style.amplitude
    forward = style.manner > 0.35
    arms = _arm("l", (80, 10), (84, 4)) | _arm("r", (80, 10), (84, 4))
    bend = _leg("l", 3 + 92 * down, -3 - 48 * down) | _leg("r", 3 + 92 * down, -3 - 48 * down)
    return bend | {"torso_f": 2 + 30 * down} | (arms if forward else {})


def bow(phase: float, style: Style) -> Pose:
    """The torso bends forward and comes back."""
    down = keyed(phase, [(0, 0), (0.35, 1), (0.6, 1), (1, 0)]) * style.amplitude
    hang = 14 * down
    return {
        "torso_f": 2 + 72 * down, "head_f": 4 + 88 * down,
        "l_upper_f": hang, "r_upper_f": hang, "l_fore_f": 10 + hang, "r_fore_f": 10 + hang,
        "l_thigh_f": -8 * down, "r_thigh_f": -8 * down, "l_shin_f": -8 * down, "r_shin_f": -8 * down,
    }  # fmt: skip


def spin(phase: float, style: Style) -> Pose:
    """Whole turns on the spot."""
    direction = 1 if style.side == "r" else -1
    out = 20 + 40 * style.manner * sin(pi * phase)
    step = 14 * sin(2 * pi * phase * style.cycles * 3)
    arms = _arm("l", (4, out), (14, out)) | _arm("r", (4, out), (14, out))
    legs = _leg("l", 3 + step, -3 + min(step, 0)) | _leg("r", 3 - step, -3 - max(step, 0))
    return arms | legs | {"yaw": direction * 360 * style.cycles * ease(phase)}


def scratch(phase: float, style: Style) -> Pose:
    """Hand to the head and down again: begins like a wave."""
    size = 4 * sin(2 * pi * phase * style.cycles)
    return _arm(style.side, (20, 50 + 20 * style.manner), (30, 165 + size)) | {"head_f": 8}


def reach(phase: float, style: Style) -> Pose:
    """One arm lifted forward, as if to point: begins like a punch."""
    out = style.amplitude * keyed(phase, [(0, 0), (0.4, 1), (0.7, 1), (1, 0)])
    return _arm(style.side, (10 + 55 * out, 10), (40 + 30 * out, 0))


def hold_hands(phase: float, style: Style) -> Pose:
    """Hands together before the body: begins like a clap or a throw."""
    rub = 5 * sin(2 * pi * phase * style.cycles)
    upper, fore = (28 + rub, 8), (75 + rub, -46)
    return _arm("l", upper, fore) | _arm("r", upper, fore)


def dip(phase: float, style: Style) -> Pose:
    """A bend of the knees: begins like a squat or a jump."""
    down = style.amplitude * keyed(phase, [(0, 0), (0.45, 1), (1, 0)])
    bend = (3 + 52 * down, -3 - 42 * down)
    return _leg("l", *bend) | _leg("r", *bend) | {"torso_f": 2 + 16 * down}


def peer(phase: float, style: Style) -> Pose:
    """A short lean forward: begins like a bow."""
    down = style.amplitude * keyed(phase, [(0, 0), (0.4, 1), (0.6, 1), (1, 0)])
    return {"torso_f": 2 + 42 * down, "head_f": 4 + 40 * down}


def turn(phase: float, style: Style) -> Pose:
    """Looks to one side and back: begins like a spin."""
    side = 1 if style.side == "r" else -1
    return {"yaw": side * 120 * style.amplitude * keyed(phase, [(0, 0), (0.4, 1), (0.6, 1), (1, 0)])}


def lift_foot(phase: float, style: Style) -> Pose:
    """One foot off the floor for a moment: begins like a kick."""
    up = style.amplitude * keyed(phase, [(0, 0), (0.45, 1), (0.55, 1), (1, 0)])
    return _leg(style.side, 3 + 32 * up, -3 - 30 * up)


def shrug(phase: float, style: Style) -> Pose:
    """Both arms out and half up: begins like a stretch."""
    up = style.amplitude * keyed(phase, [(0, 0), (0.4, 1), (0.6, 1), (1, 0)])
    upper, fore = (5, 10 + 55 * up), (20, 4 + 95 * up)
    return _arm("l", upper, fore) | _arm("r", upper, fore)


ACTIONS: dict[str, Motion] = {
    "bow": Motion(bow, (1.4, 4.0)),
    "clap": Motion(clap, (1.0, 5.0), rate=2.6),
    "jump": Motion(jump, (0.8, 3.2), rate=1.0),
    "kick": Motion(kick, (0.5, 1.3)),
    "punch": Motion(punch, (0.5, 2.0), rate=1.7),
    "spin": Motion(spin, (0.8, 3.0), rate=0.7),
    "squat": Motion(squat, (1.3, 6.0), rate=0.55),
    "stretch": Motion(stretch, (3.0, 8.0)),
    "throw": Motion(throw, (0.8, 1.7)),
    "wave": Motion(wave, (1.2, 5.0), rate=1.8),
}

FIDGETS: dict[str, Motion] = {
    "scratch": Motion(scratch, (0.7, 2.0), rate=2.5),
    "reach": Motion(reach, (0.6, 1.4)),
    "hold_hands": Motion(hold_hands, (0.7, 2.5), rate=1.2),
    "dip": Motion(dip, (0.6, 1.6)),
    "peer": Motion(peer, (0.8, 1.8)),
    "turn": Motion(turn, (0.8, 2.0)),
    "lift_foot": Motion(lift_foot, (0.5, 1.1)),
    "shrug": Motion(shrug, (0.8, 1.8)),
}


def walk(stride: float) -> Pose:
    """A walking pose; ``stride`` in radians, one step each pi."""
    s, c = sin(stride), cos(stride)
    return {
        "l_thigh_f": 26 * s, "r_thigh_f": -26 * s,
        "l_shin_f": 26 * s - 22 - 18 * c, "r_shin_f": -26 * s - 22 + 18 * c,
        "l_upper_f": -22 * s, "r_upper_f": 22 * s, "l_fore_f": 14 - 22 * s, "r_fore_f": 14 + 22 * s,
        "torso_f": 6,
    }  # fmt: skip
