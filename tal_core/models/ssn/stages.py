"""The two stages of training SSN: first the proposals' network, then the heads on what it proposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import torch
from torch import nn

from tal_core.data.dataset.protocol import FeatureDataset
from tal_core.models.bmn import bmn
from tal_core.models.bsn import bsn
from tal_core.models.config import MethodConfig, validated
from tal_core.models.method import Method, Sampler
from tal_core.models.shared.batches import Batches
from tal_core.models.shared.class_head import draw_segments, snippet_labels
from tal_core.models.shared.clips import training_segments
from tal_core.models.shared.feature_reader import FeatureReader
from tal_core.models.ssn import actionness
from tal_core.models.ssn.structured_segments import (
    BACKGROUND,
    FOREGROUND,
    INCOMPLETE,
    KindRules,
    name_proposals,
    proposal_kinds,
    proposal_snippets,
    regression_targets,
)
from tal_core.types import InputError

KINDS = (FOREGROUND, INCOMPLETE, BACKGROUND)
# What the setting ``proposals`` can name.
PROPOSERS: dict[str, Method] = {method.name: method for method in (actionness.METHOD, bsn.METHOD, bmn.METHOD)}


def proposer_of(config: Any) -> tuple[Method, MethodConfig]:
    """The method that proposes and its settings, trained for ``proposal_epochs`` and without a class head.

    Raises:
        ValueError: if ``proposer_settings`` aren't settings of it.
    """
    method = PROPOSERS[config.proposals]
    fields = method.config.model_fields
    shared = {"epochs": config.proposal_epochs, "max_candidates": config.max_proposals, "validate_every": 0}
    if "classifier" in fields:
        shared["classifier"] = "video_scores"
    settings = {}
    for pair in config.proposer_settings.split():
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"proposer_settings has {pair!r}, each is name=value, separated by spaces")
        optional = name in fields and type(None) in get_args(fields[name].annotation)
        settings[name] = None if optional and value == "none" else value.split(",") if "," in value else value
    try:
        return method, validated(method.config, shared | settings)
    except InputError as error:
        raise ValueError(f"proposer_settings: {error}") from None


def make_proposer(config: Any, num_features: int, num_classes: int) -> nn.Module:
    """The proposals' network: anything with ``loss`` and class-agnostic ``candidates``."""
    method, settings = proposer_of(config)
    return method.build(settings, num_features, num_classes)


class Table(NamedTuple):
    """N training proposals of one clip: edges (N, 2), label from 1, kind and regression targets (N, 2)."""

    edges: torch.Tensor
    labels: torch.Tensor
    kinds: torch.Tensor
    targets: torch.Tensor

    def rows(self, kept: torch.Tensor) -> Table:
        return Table(self.edges[kept], self.labels[kept], self.kinds[kept], self.targets[kept])

    def joined(self, other: Table) -> Table:
        """These, then ``other``."""
        return Table(*(torch.cat(pair) for pair in zip(self, other, strict=True)))


class Clip(NamedTuple):
    """Snippets ``start:stop`` of a video, their proposals, and every action in sight, cut or whole.

    ``actions`` (M, 2) edges and ``classes`` (M,) from 0.
    """

    video: str
    start: int
    stop: int
    table: Table
    actions: torch.Tensor
    classes: torch.Tensor


def training_table(
    edges: torch.Tensor, actions: torch.Tensor, classes: torch.Tensor, length: int, rules: KindRules
) -> Table:
    """Label proposals ``(N, 2)`` of a clip of ``length`` snippets by its actions ``(M, 2)``."""
    named = name_proposals(edges, actions, classes)
    kinds = proposal_kinds(named.iou, named.overlap, (edges[:, 1] - edges[:, 0]) / length, rules)
    targets = torch.zeros(len(edges), 2, dtype=torch.float64)
    foreground = kinds == FOREGROUND
    if foreground.any():
        targets[foreground] = regression_targets(edges[foreground], actions[named.action[foreground]])
    return Table(edges, named.label, kinds, targets)


def action_table(actions: torch.Tensor, classes: torch.Tensor) -> Table:
    """Actions as foreground proposals, which have nothing to move."""
    kinds = torch.full_like(classes, FOREGROUND)
    return Table(actions, classes + 1, kinds, torch.zeros_like(actions))


class StagedSampler:
    """Batches of the proposals' network in the first ``proposal_epochs`` epochs, then of labelled proposals.

    Nothing trains the proposals' network after its epochs. So its proposals for the training videos, made
    when they are first needed, are the same in a run that was stopped and resumed.
    """

    def __init__(self, model: Any, dataset: FeatureDataset, config: Any):
        self.model, self.dataset, self.config = model, dataset, config
        method, settings = proposer_of(config)
        self.first: Sampler = method.sampler(model.proposer, dataset, settings)
        self.videos = dataset.videos(dataset.training_subset)
        self.reader = FeatureReader(dataset, self.videos, config.keep_features, config.device)
        self.truth = {
            video: (torch.from_numpy(segments).double() + 0.5, torch.from_numpy(labels))
            for video, (segments, labels) in training_segments(dataset, self.videos).items()
        }
        self.proposed: dict[str, torch.Tensor] = {}

    def epoch(self, epoch: int, generator: torch.Generator) -> Sequence[dict[str, Any]]:
        """Batches ``{"proposer": ...}``, later as `ProposalBatches` says."""
        if epoch < self.config.proposal_epochs:
            return FirstStage([self.first.epoch(epoch, generator) for _ in range(self.config.repeats)])
        if not self.proposed:
            self._propose()
        order = [torch.randperm(len(self.videos), generator=generator) for _ in range(self.config.repeats)]
        seed = int(torch.randint(2**62, (1,), generator=generator))
        return ProposalBatches(self, torch.cat(order).tolist(), seed)

    @torch.no_grad()
    def _propose(self) -> None:
        """Propose for every training video; the model takes mean and deviation of the regression targets."""
        device = self.model.mean.device
        training = self.model.training
        self.model.eval()
        targets = []
        for video in self.videos:
            features = self.reader.read(video).float().to(device)
            edges = self.model.proposals(features, self.dataset.grid(video))
            self.proposed[video] = edges
            table = training_table(edges, *self.truth[video], len(features), self.config.rules)
            targets.append(table.targets[table.kinds == FOREGROUND])
        self.model.train(training)
        known = torch.cat(targets)
        if len(known) > 1:
            deviation = known.std(dim=0, unbiased=False).clamp(min=0.01)
            self.model.regression_mean.copy_(known.mean(dim=0))
            self.model.regression_std.copy_(deviation)

    def clip(self, video: str, generator: torch.Generator) -> Clip:
        """A video, or with an encoder a random part of a longer one, and its labelled proposals.

        Proposals, and actions as foreground, lie wholly inside; an action that is cut still names what
        overlaps it.
        """
        length = self.reader.lengths[video]
        size = min(length, self.config.sequence_length) if self.config.encoder_layers else length
        start = int(torch.randint(length - size + 1, (1,), generator=generator))
        actions, classes = self.truth[video]
        actions = actions - start
        visible = (actions[:, 1] > 0) & (actions[:, 0] < size)
        actions, classes = actions[visible], classes[visible]
        inside = torch.ones(len(actions), dtype=torch.bool)
        if size < length:
            inside = (actions[:, 0] >= 0) & (actions[:, 1] <= size)
        edges = self.proposed[video] - start
        edges = edges[(edges[:, 0] >= 0) & (edges[:, 1] <= size)]
        if self.config.moved_truth:
            edges = torch.cat([edges, self._moved(actions[inside], size, generator)])
        found = training_table(edges, actions, classes, size, self.config.rules)
        table = found.joined(action_table(actions[inside], classes[inside]))
        return Clip(video, start, start + size, table, actions, classes)

    def _moved(self, actions: torch.Tensor, length: int, generator: torch.Generator) -> torch.Tensor:
        """``moved_truth`` segments around the actions, from a random state of their own."""
        seed = int(torch.randint(2**62, (1,), generator=generator))
        truth = actions[None] if len(actions) else torch.full((1, 1, 2), -1e6, dtype=torch.float64)
        real = torch.full(truth.shape[:2], bool(len(actions)))
        lengths = torch.tensor([length], dtype=torch.float64)
        own = torch.Generator().manual_seed(seed)
        return draw_segments(truth - 0.5, real, lengths, self.config.moved_truth, own)[0] + 0.5


class FirstStage(Sequence[Any]):
    """Batches of the proposals' network, of several passes."""

    def __init__(self, passes: Sequence[Sequence[Any]]):
        self.passes = passes
        self.places = [(row, step) for row, batches in enumerate(passes) for step in range(len(batches))]
        self.needs_network = any(getattr(batches, "needs_network", False) for batches in passes)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, step: Any) -> Any:
        row, place = self.places[step]
        return {"proposer": self.passes[row][place]}


class ProposalBatches(Batches):
    """Labelled proposals of some videos a batch; batch ``i`` depends on the epoch's draw and ``i`` alone.

    ``labels``, ``kinds`` (N,) and ``targets`` (N, 2), block by block, one a video, each foreground,
    incomplete, background; ``blocks`` their number. Without an encoder ``snippets`` (N, S, D) and
    ``scaling`` (N, 2); with one ``features`` (B, T, D), ``mask`` (B, T), ``snippet_labels`` (B, T), ``edges``
    (N, 2) and ``video`` (N,).
    """

    def __init__(self, sampler: StagedSampler, order: list[int], seed: int):
        super().__init__(order, sampler.config.batch_size)
        self.sampler, self.seed = sampler, seed

    def read(self, step: int, entries: Sequence[int]) -> dict[str, Any]:
        """The proposals of the videos numbered ``entries``."""
        sampler = self.sampler
        generator = torch.Generator().manual_seed((self.seed + step) % 2**63)
        videos = [sampler.videos[number] for number in entries]
        clips = [sampler.clip(video, generator) for video in videos]
        table = Table(*(torch.cat(columns) for columns in zip(*(clip.table for clip in clips), strict=True)))
        sizes = torch.tensor([len(clip.table.kinds) for clip in clips])
        of_clip = torch.arange(len(clips)).repeat_interleave(sizes)
        drawn = draw_kinds(table.kinds, of_clip, len(clips), sampler.config, generator)
        table, of_clip = table.rows(drawn), of_clip[drawn]
        batch = {
            "labels": torch.where(table.kinds == BACKGROUND, 0, table.labels),
            "kinds": table.kinds,
            "targets": table.targets.float(),
            "blocks": len(clips),
        }
        if sampler.config.encoder_layers:
            return batch | self._whole(clips) | {"edges": table.edges.float(), "video": of_clip}
        return batch | self._snippets(videos, table.edges, of_clip, generator)

    def _whole(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor]:
        lengths = torch.tensor([clip.stop - clip.start for clip in clips])
        longest = int(lengths.max())
        reader, channels = self.sampler.reader, self.sampler.dataset.num_features
        features = torch.zeros(len(clips), longest, channels, dtype=reader.dtype, device=reader.device)
        labels = torch.zeros(len(clips), longest, dtype=torch.long)
        for row, clip in enumerate(clips):
            read = reader.read(clip.video, clip.start, clip.stop)
            features[row, : len(read)] = read
            if len(clip.actions):
                actions, classes = clip.actions[None] - 0.5, clip.classes[None]
                labels[row, : len(read)] = 1 + snippet_labels(actions, classes, len(read), -1)[0]
        mask = torch.arange(longest) < lengths[:, None]
        return {"features": features, "mask": mask, "snippet_labels": labels}

    def _snippets(
        self,
        videos: Sequence[str],
        edges: torch.Tensor,
        of_clip: torch.Tensor,
        generator: torch.Generator,
    ) -> dict[str, torch.Tensor]:
        config, reader = self.sampler.config, self.sampler.reader
        lengths = torch.tensor([reader.lengths[video] for video in videos])[of_clip]
        start = torch.minimum(edges[:, 0].long().clamp(min=0), lengths - 1)
        frames = torch.stack([start, torch.maximum(edges[:, 1].long(), start + 1)], dim=1)
        places, scaling = proposal_snippets(frames, lengths, config.counts, generator)
        shape = (*places.shape, self.sampler.dataset.num_features)
        snippets = torch.empty(shape, dtype=reader.dtype, device=reader.device)
        for number, video in enumerate(videos):
            rows = of_clip == number
            snippets[rows] = reader.read(video)[places[rows] - 1].to(reader.dtype)
        return {"snippets": snippets, "scaling": scaling}


def draw_kinds(
    kinds: torch.Tensor, of_clip: torch.Tensor, clips: int, config: Any, generator: torch.Generator
) -> torch.Tensor:
    """Rows of the drawn proposals, clip by clip, in each so many of every kind.

    A clip with too few of a kind gives some more than once; one without any takes the batch's. What the whole
    batch lacks stays out.
    """
    drawn = []
    for clip in range(clips):
        for kind, number in zip(KINDS, config.numbers, strict=True):
            rows = torch.nonzero(kinds == kind).flatten()
            own = rows[of_clip[rows] == clip]
            rows = own if len(own) else rows
            if len(rows) >= number:
                drawn.append(rows[torch.randperm(len(rows), generator=generator)[:number]])
            elif len(rows):
                drawn.append(rows[torch.randint(len(rows), (number,), generator=generator)])
    return torch.cat(drawn) if drawn else torch.zeros(0, dtype=torch.long)
