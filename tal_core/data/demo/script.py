"""What happens in one demo video: its looks, and a timeline of actions, fidgets and walks.

Everything follows from ``(seed, index)``; videos can be drawn in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import pi, sin

import numpy as np

from tal_core.data.demo.actions import ACTIONS, FIDGETS, RESTING, Motion, Pose, Style, ease, walk

NUM_VIDEOS = 60
FRAME_RATES = (Fraction(25, 2), Fraction(15), Fraction(20), Fraction(25))
LENGTH = (30.0, 60.0)  # seconds
_STEP = 0.4  # seconds; every length is a multiple: whole frames at each rate, whole snippets
_ONSET = 0.3  # an action counts from where this share of the movement into it is done


@dataclass(frozen=True)
class Event:
    """Something the figure does from ``start`` to ``end`` seconds; ``kind`` is action, fidget or walk.

    ``rise`` and ``fall`` are the seconds it takes to get into the movement and out of it. A walk goes from
    ``x0`` to ``x1`` (frame widths).
    """

    kind: str
    name: str
    start: float
    end: float
    rise: float = 0.0
    fall: float = 0.0
    style: Style = field(default_factory=lambda: Style("r", 1.0, 1, 0.5))
    x0: float = 0.5
    x1: float = 0.5

    @property
    def segment(self) -> tuple[float, float]:
        """Annotated start and end: inside the smooth transitions."""
        return round(self.start + _ONSET * self.rise, 2), round(self.end - _ONSET * self.fall, 2)


@dataclass(frozen=True)
class Script:
    """One video: ``events`` in time order, and what the camera and the room do."""

    index: int
    fps: Fraction
    num_frames: int
    events: tuple[Event, ...]
    height: float  # of the figure, in frame heights
    facing: float  # degrees away from the viewer
    home: float  # where the figure stands first, in frame widths
    sway: float  # idle movement, 1 is ordinary
    phases: tuple[float, ...]  # of the slow drifts

    @property
    def video_id(self) -> str:
        """Name of the video and its files."""
        return f"demo_{self.index:03d}"

    @property
    def subset(self) -> str:
        """Three in ten videos are for testing."""
        return "testing" if self.index % 10 in (1, 4, 7) else "training"

    @property
    def labels(self) -> set[str]:
        return {event.name for event in self.events if event.kind == "action"}

    @property
    def duration(self) -> float:
        return float(self.num_frames / self.fps)

    def annotation(self) -> dict:
        """The video's entry in an ActivityNet annotation file."""
        segments = [{"segment": list(e.segment), "label": e.name} for e in self.events if e.kind == "action"]
        return {
            "subset": self.subset,
            "duration": round(self.duration, 3),
            "fps": float(self.fps),
            "annotations": segments,
        }


def write_script(seed: int, index: int) -> Script:
    """Decide everything that happens in video ``index``."""
    rng = np.random.default_rng([seed, index, 0])
    fps = FRAME_RATES[int(rng.integers(len(FRAME_RATES)))]
    duration = round(rng.uniform(*LENGTH) / _STEP) * _STEP
    home = float(rng.uniform(0.3, 0.7))
    tempo = float(rng.uniform(0.75, 1.35))
    taste = rng.dirichlet(np.full(len(ACTIONS), 2.5))
    return Script(
        index=index,
        fps=fps,
        num_frames=round(duration * fps),
        events=tuple(_timeline(rng, duration, home, tempo, taste)),
        height=float(rng.uniform(0.52, 0.8)),
        facing=float(rng.choice([-1, 1]) * rng.uniform(15, 65)),
        home=home,
        sway=float(rng.uniform(0.6, 1.5)),
        phases=tuple(float(p) for p in rng.uniform(0, 2 * pi, 8)),
    )


def _timeline(
    rng: np.random.Generator, duration: float, home: float, tempo: float, taste: np.ndarray
) -> list[Event]:
    """Actions, fidgets and walks with pauses between them; none is cut off by the end of the video."""
    events: list[Event] = []
    now, x = float(rng.uniform(0.4, 3.0)), home
    while True:
        kind = str(rng.choice(["action", "fidget", "walk"], p=[0.5, 0.38, 0.12]))
        if kind == "walk":
            event = _walk(rng, now, x)
            x = event.x1
        elif kind == "action":
            event = _motion(rng, kind, str(rng.choice(list(ACTIONS), p=taste)), now, tempo)
        else:
            event = _motion(rng, kind, str(rng.choice(list(FIDGETS))), now, tempo)
        if event.end > duration - 0.3:
            return events
        events.append(event)
        now = event.end + float(rng.exponential(0.9)) * tempo + 0.1


def _motion(rng: np.random.Generator, kind: str, name: str, start: float, tempo: float) -> Event:
    """One performance of an action or fidget, short ones more often than long ones."""
    motion: Motion = (ACTIONS if kind == "action" else FIDGETS)[name]
    shortest, longest = motion.seconds
    seconds = float(np.clip(shortest * (longest / shortest) ** rng.beta(1.3, 1.6) * tempo, 0.65, 8.0))
    cycles = max(1, round(seconds * motion.rate * rng.uniform(0.75, 1.3) / tempo))
    size = (0.75, 1.12) if kind == "action" else (0.5, 1.1)
    style = Style(str(rng.choice(["l", "r"])), float(rng.uniform(*size)), cycles, float(rng.uniform()))
    rise, fall = (float(min(rng.uniform(0.2, 0.7), 0.35 * seconds)) for _ in range(2))
    return Event(kind, name, start, start + seconds, rise, fall, style)


def _walk(rng: np.random.Generator, start: float, x: float) -> Event:
    """A few steps to another place."""
    target = float(rng.uniform(0.2, 0.8))
    seconds = 0.6 + abs(target - x) / float(rng.uniform(0.18, 0.35))
    return Event("walk", "walk", start, start + seconds, 0.25, 0.25, x0=x, x1=target)


def pose_at(script: Script, seconds: float) -> tuple[Pose, float]:
    """The figure's pose and place (frame widths) at a time."""
    pose = _idle(script, seconds)
    x = script.home
    for event in script.events:
        if event.start > seconds:
            break
        if event.kind == "walk":
            x = event.x0 + (event.x1 - event.x0) * ease((seconds - event.start) / (event.end - event.start))
        if seconds < event.end:
            _blend(pose, *_performed(script, event, seconds))
    return pose, x


def _performed(script: Script, event: Event, seconds: float) -> tuple[Pose, float]:
    """What the event wants the pose to be, and how much it counts."""
    weight = ease((seconds - event.start) / event.rise) * ease((event.end - seconds) / event.fall)
    if event.kind == "walk":
        distance = event.x1 - event.x0
        done = ease((seconds - event.start) / (event.end - event.start))
        pose = walk(pi * done * abs(distance) * 12)
        return pose | {"yaw": (85 if distance > 0 else -85) - script.facing}, weight
    phase = (seconds - event.start) / (event.end - event.start)
    motion = (ACTIONS if event.kind == "action" else FIDGETS)[event.name]
    pose = motion.pose(phase, event.style)
    if event.name == "spin":
        # Whole turns end where they began; blending the angle would turn the figure back.
        pose["turned"] = pose.pop("yaw")
    return pose, weight


def _blend(pose: Pose, target: Pose, weight: float) -> None:
    """Move ``pose`` towards ``target`` in place."""
    for joint, angle in target.items():
        if joint == "turned":
            pose["yaw"] += angle
        else:
            pose[joint] += weight * (angle - pose[joint])


def _idle(script: Script, seconds: float) -> Pose:
    """Standing, never quite still: breath, shifting weight, arms and head moving slightly."""
    p, s, t = script.phases, script.sway, seconds
    pose = {joint: float(angle) for joint, angle in RESTING.items()}
    pose["torso_f"] += s * 1.5 * sin(1.7 * t + p[0])
    pose["torso_a"] += s * 2.5 * sin(0.6 * t + p[1])
    pose["head_f"] += s * 4 * sin(0.9 * t + p[2])
    pose["head_a"] += s * 4 * sin(0.5 * t + p[3])
    pose["yaw"] += s * 8 * sin(0.35 * t + p[4])
    for side, k in (("l", 5), ("r", 6)):
        pose[f"{side}_upper_f"] += s * 5 * sin(1.1 * t + p[k])
        pose[f"{side}_fore_f"] += s * 8 * sin(1.1 * t + p[k] - 0.6)
        pose[f"{side}_upper_a"] += s * 3 * sin(0.8 * t + p[k])
    knee = s * 4 * max(0.0, sin(0.6 * t + p[1]))
    pose["l_thigh_f"] += knee
    pose["l_shin_f"] -= knee
    return pose
