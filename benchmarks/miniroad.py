"""Times MiniROAD beside the program of its authors, on the same data and weights, in one run.

    python benchmarks/miniroad.py --miniroad DIR

DIR is a clone of jbistanbul/MiniROAD, which runs as it is (see references.py). Sizes are the published ones
for THUMOS14: 3072 features (rgb and flow), embedding 2048, GRU 1024, 22 classes with background.

* Streaming step: one snippet of one stream. The reference has no streaming mode, so its own layers are called
  on one snippet with the state before.
* Whole sequence: class scores of one video of 200 snippets; the time is per snippet.
* Training step: 16 windows of 128 snippets; forward, loss of the last snippet, backward, AdamW.

The programs take turns; times are the least of several, which other programs disturb least. ``difference`` is
the largest absolute one between scores, and between all gradients of one step with the same dropout.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import references
import torch
from common import parser_of
from timing import Setup, count, heading, on, shake, step_of, take_over

from tal_core.models.config import validated
from tal_core.models.miniroad import MiniRoad, MiniRoadConfig, from_reference
from tal_core.models.presets import presets

RGB, FLOW, OUTPUTS = 2048, 1024, 22
VIDEO, STEPS = 200, 10


class Reference:
    """MiniROAD by its authors, with the settings of miniroad_thumos_kinetics.yaml."""

    def __init__(self, checkout: Path, config: MiniRoadConfig, device: torch.device):
        (registry,) = references.load(checkout / "utils", ["registry"])
        stand_ins = {"utils": SimpleNamespace(Registry=registry.Registry)}
        models, criterions = references.load(checkout, ["model.rnn.rnn", "criterions.loss"], stand_ins)
        settings = {
            "no_flow": False,
            "no_rgb": False,
            "rgb_type": "rgb_kinetics_resnet50",
            "flow_type": "flow_kinetics_bninception",
            "num_classes": OUTPUTS,
            "embedding_dim": config.embed_dim,
            "hidden_dim": config.hidden_dim,
            "num_layers": config.layers,
            "window_size": config.window,
            "dropout": config.dropout,
        }
        self.model = models.MROAD(settings).to(device)
        self.criterion = criterions.OadLoss(settings)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def loss(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of windows ``(B, W, D)`` with labels ``(B, W, K + 1)``."""
        self.model.train()
        return self.criterion(self.model(*features.split((RGB, FLOW), dim=2)), targets)

    def step(self, features: torch.Tensor, targets: torch.Tensor, autocast) -> torch.Tensor:
        """One step as in ``train_one_epoch``."""
        with autocast():
            loss = self.loss(features, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss

    @torch.no_grad()
    def sequence(self, features: torch.Tensor) -> torch.Tensor:
        """``(1, T, D)`` -> probabilities ``(1, T, K + 1)``."""
        return self.model.eval()(*features.split((RGB, FLOW), dim=2))["logits"]

    @torch.no_grad()
    def advance(self, features: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Its layers on the next snippets ``(1, T, D)`` -> probabilities, state."""
        model = self.model.eval()
        hidden, state = model.gru(model.layer1(features), state)
        return model.f_classification(model.relu(hidden)).softmax(-1), state


def stream(network, video: torch.Tensor, state: torch.Tensor, steps: int) -> torch.Tensor:
    """Scores ``(steps, ...)`` of the first snippets of a video, one by one."""
    found = []
    for place in range(steps):
        scores, state = network.advance(video[:, place : place + 1], state)
        found.append(scores[0, 0])
    return torch.stack(found)


def gradient_gap(model: MiniRoad, reference: Reference, batch: dict, targets: torch.Tensor) -> float:
    """Largest difference of all gradients, with the same numbers left out by dropout."""
    model.train()
    torch.manual_seed(0)
    model.loss(batch)["loss"].backward()
    torch.manual_seed(0)
    reference.loss(batch["windows"], targets).backward()
    theirs = from_reference({name: one.grad for name, one in reference.model.named_parameters()})
    gaps = [(one.grad - theirs[name]).abs().max().item() for name, one in model.named_parameters()]
    model.zero_grad(set_to_none=True)
    reference.model.zero_grad(set_to_none=True)
    return max(gaps)


def main() -> None:
    """Prints the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--miniroad", type=Path, metavar="DIR", help="the reference's checkout")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each program")
    parser.add_argument("--threads", type=int, default=2, help="CPU cores")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="of both")
    parser.add_argument("--compile", action="store_true", help="compile our network")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    setup = Setup(options)
    device = setup.device

    config = validated(MiniRoadConfig, presets("miniroad")["thumos14"].settings)
    model = MiniRoad(config, RGB + FLOW, OUTPUTS - 1).to(device)
    reference = None
    if options.miniroad is not None:
        reference = Reference(options.miniroad.resolve(), config, device)
        shake(reference.model)
        take_over(model, from_reference(reference.model.state_dict()))
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {options.threads} threads"
    print(f"{where}, {options.precision}, PyTorch {torch.__version__}; least of {options.repeats}")
    heading(f"MiniROAD: {count(model):.1f} M parameters")

    video, state = torch.randn(1, VIDEO, RGB + FLOW, device=device), model.zero_state()
    with setup.autocast():
        time_scores(setup, model, reference, video, state)
    time_training(setup, model, reference, config)


def time_scores(setup: Setup, model: MiniRoad, reference: Reference | None, video, state) -> None:
    """Streaming steps and a whole video."""
    model.eval()
    steps = {"ours": lambda: stream(model, video, state, STEPS)}
    whole = {"ours": lambda: model.advance(video, state)[0]}
    gaps = {}
    if reference is not None:
        steps["reference"] = lambda: stream(reference, video, state, STEPS)
        whole["reference"] = lambda: reference.sequence(video)
        gaps["steps"] = (steps["ours"]() - steps["reference"]()[:, 1:]).abs().max().item()
        gaps["whole"] = (whole["ours"]() - whole["reference"]()[..., 1:]).abs().max().item()
    repeats = 4 * setup.options.repeats
    setup.compare("streaming step", steps, gaps.get("steps"), calls=STEPS, repeats=repeats)
    setup.compare(
        f"whole sequence of {VIDEO}, per snippet", whole, gaps.get("whole"), calls=VIDEO, repeats=repeats
    )


def time_training(setup: Setup, model: MiniRoad, reference: Reference | None, config: MiniRoadConfig) -> None:
    """The training step, with its gradients compared before it."""
    size, window = config.batch_size, config.window
    labels = torch.nn.functional.one_hot(torch.randint(OUTPUTS, (size, window)), OUTPUTS).float()
    batch = on(
        setup.device,
        {
            "windows": torch.randn(size, window, RGB + FLOW),
            "padding": torch.zeros(size, dtype=torch.int64),
            "targets": labels[:, -config.counted :],
        },
    )
    gap, labels = None, labels.to(setup.device)
    if reference is not None:
        gap = gradient_gap(model, reference, batch, labels)
    step = step_of(setup, model, config, average=config.ema_decay is not None)
    functions = {"ours": lambda: step(batch)}
    if reference is not None:
        functions["reference"] = lambda: reference.step(batch["windows"], labels, setup.autocast)
    setup.compare(f"training step, {size} x {window}", functions, gap)


if __name__ == "__main__":
    main()
