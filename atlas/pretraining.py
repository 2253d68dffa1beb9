"""Pre-train the kernels on unlabelled charts: hide bars of a window, learn to say what they were.

- What is trained is the stem and the dictionary of kernels, each response as it is: no expert's
  row, no gate, no fingerprint. Adapter and decoder are trained beside them and thrown away, so
  that what is kept fits any network of the same kernels (`load_kernels`).
- Windows are all those of the training span that end no later than its last labelled one does, so
  a validation or test bar is never read; no label is. The newest sessions, with a tenth of the
  windows, are held out: a loss counts on bars that were not learned from.
- What is random in a step follows from (seed, step) alone, as in `atlas.training`: two runs, or a
  killed and resumed one, end in the same bits.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from atlas.config import ATLASConfig, TrainingConfig
from atlas.errors import DataError, ModelError
from atlas.experts import Mixture
from atlas.inputs import IMAGES, Inputs
from atlas.kernels.bank import EDGE
from atlas.masking import ASKED, BLOCK, Block, Masked, hide
from atlas.moe import Network, build_model
from atlas.optimization import Rule, build_optimizers, clip_gradients, set_rates
from atlas.prediction import to_tensors
from atlas.sampling import draw, spread_evenly
from atlas.training import CLIP, reproducible
from atlas.training_state import (
    TrainingState,
    check_same,
    load_optimizers,
    optimizer_tensors,
    section,
)
from atlas.trunk import Trunk
from atlas.windows import WINDOW, MarketData

__all__ = ["Epoch", "MaskedBars", "Pretrained", "load_kernels", "pretrain", "spans", "unlabelled"]

Positions = npt.NDArray[np.int64]

RATE: Final = 0.25  # of the training's learning rate: the kernels begin as templates, not as noise
HELD_SHARE: Final = 0.1  # of the windows, the newest: at least so many, in whole sessions
HELD: Final = 1_024  # windows a market that are judged after each epoch
_PLACES = 1  # parts the draw of places from that of windows
_WIDTH = 16  # of the decoder's convolution
_KEPT = ("stem.", "dictionary.series.", "dictionary.chart.", "dictionary.surface.")


class Epoch(NamedTuple):
    """One epoch: losses as shares of the baseline's, so that 1 is no better than a straight line.

    `learned` is over the epoch's own windows, the others over held-out ones, means over markets:
    of both questions, of moves and of sizes.
    """

    epoch: int
    step: int
    learned: float
    held: float
    held_move: float
    held_size: float


class Pretrained(NamedTuple):
    """Kernels by their name in the trunk, the loss curve, and by market the held-out shares."""

    weights: dict[str, Tensor]
    history: tuple[Epoch, ...]
    markets: dict[str, dict[str, float]]


class MaskedBars(nn.Module):
    """The trunk's stem and kernels under a small decoder that answers what the hidden bars were.

    Args:
        trunk: whose stem, dictionary and adapter are trained; its body is left alone.
        modalities: served.
        width: of the decoder.
        block: what is hidden.
    """

    def __init__(self, trunk: Trunk, modalities: tuple[str, ...], width: int, block: Block) -> None:
        super().__init__()
        self.trunk, self.modalities, self.hidden = trunk, modalities, block.hidden
        trunk.body.requires_grad_(False)
        owners = trunk.dictionary.owners
        channels = trunk.stem.channels + len(owners["chart"])
        self.planes = nn.Conv2d(channels, _WIDTH, 3, stride=2, padding=1)
        flat = len(owners["series"]) * EDGE + _WIDTH * 4 * 8
        self.join = nn.ModuleDict({m: nn.Linear(flat, width) for m in modalities})
        self.place = nn.Embedding(block.latest + 1, width)
        asked = block.hidden * len(ASKED)
        self.answer = nn.ModuleDict({m: nn.Linear(width, asked) for m in modalities})

    def forward(self, inputs: Inputs, after: Tensor) -> Tensor:
        """Return answers (B, hidden, 2) for a batch, `after` (B,) bars following each block."""
        dictionary = self.trunk.dictionary
        widths = {p: len(dictionary.owners[p]) for p in dictionary.places(inputs.modality)}
        one = inputs.series.new_ones(1, max(widths.values()))
        scale = {place: one[:, :width] for place, width in widths.items()}
        shift = {place: torch.zeros_like(row) for place, row in scale.items()}
        line, plane = self.trunk.responses(inputs, Mixture([dictionary], [scale], shift))
        assert plane is not None
        seen = functional.relu(self.planes(plane)).flatten(1)  # (B, W·4·8)
        joined = self.join[inputs.modality](torch.cat([line.flatten(1), seen], 1))
        hidden = functional.relu(joined + self.place(after))
        answer: Tensor = self.answer[inputs.modality](hidden)
        return answer.view(-1, self.hidden, len(ASKED))


def unlabelled(own: MarketData, reach: int) -> MarketData:
    """Return the market with every window of its training span to learn from, and held-out ones.

    Its `train` are windows that no label asks for; its `validation` the newest, whose last bars,
    those that can be hidden, are in sessions that no `train` window reaches. Nothing is its `test`.
    A window ends at the symbol's last labelled training window at the latest.

    Args:
        own: the market.
        reach: newest bars of a window that may be hidden.
    """
    panel, spans_ = own.panel, zip(own.panel.offsets[:-1], own.panel.offsets[1:], strict=True)
    parts = []
    for begin, end in spans_:
        labelled = own.split.train[(own.split.train >= begin) & (own.split.train < end)]
        if labelled.size:
            parts.append(np.arange(begin + WINDOW - 1, labelled[-1] + 1, dtype=np.int64))
    ends = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    days = np.sort(panel.session[ends])
    learn, held = ends, ends[:0]
    if days.size and (day := days[int((1 - HELD_SHARE) * days.size)]) > days[0]:
        learn = ends[panel.session[ends] < day]
        held = ends[panel.session[ends - reach] >= day]
    split = replace(own.split, train=learn, validation=held, test=ends[:0])
    return replace(own, split=split)


def spans(data: Mapping[str, MarketData]) -> dict[str, int]:
    """Return by market the last session that `pretrain` would read, days since 1970-01-01.

    A training may start from the weights if its validation begins in a later session.
    """
    return {
        market: int(own.panel.session[own.split.train].max())
        for market, own in data.items()
        if own.split.train.size
    }


def pretrain(
    config: ATLASConfig,
    data: Mapping[str, MarketData],
    *,
    seed: int,
    block: Block = BLOCK,
    checkpoint: Callable[[TrainingState], None] | None = None,
    resume: TrainingState | None = None,
    told: Callable[[Epoch], None] | None = None,
) -> Pretrained:
    """Train stem and kernels to say what hidden bars were; `config.training` is the budget.

    Args:
        config: markets, widths; of `training` epochs, windows, batch, optimizer, rate and threads.
        data: the markets; only bars of their training spans are read.
        seed: of the first weights, the draws and the places that are hidden.
        block: what is hidden.
        checkpoint: called after each epoch with all that is needed to go on from there.
        resume: what an interrupted run of the same arguments handed to `checkpoint` last.
        told: called after each epoch.

    Raises:
        DataError: a market has no window to learn from.
        ModelError: the loss is not finite, or `resume` is of another pre-training.
    """
    with reproducible(config.training.threads):
        torch.manual_seed(seed)
        plain = build_model(config, variant="cnn")
        model = MaskedBars(plain.trunk, plain.modalities, config.model.hidden, block)
        task = {market: unlabelled(own, block.reach) for market, own in data.items()}
        run = _Run(model, task, config.training, seed, block)
        if resume is not None:
            run.load(resume)
        while run.step < run.steps:
            run.advance()
            if checkpoint is not None:
                checkpoint(run.state())
            if told is not None:
                told(run.history[-1])
        kept = {n: p.detach().clone() for n, p in model.trunk.named_parameters() if _is_kept(n)}
        return Pretrained(kept, tuple(run.history), run.judged())


def load_kernels(model: Network, weights: Mapping[str, Tensor]) -> None:
    """Put pre-trained stem and kernels into a network, every bank of it; the rest stays.

    A network that has fewer places (one without charts, say) takes those that it has.

    Raises:
        ModelError: a kernel is missing or has another shape.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            known = _kernel_name(name)
            if known is None:
                continue
            came = tuple(weights[known].shape) if known in weights else "none"
            if came != tuple(weight.shape):
                raise ModelError(
                    f"pre-trained kernels do not fit: {known}: expected {tuple(weight.shape)}, "
                    f"got {came}; run `python -m pipelines pretrain` again"
                )
            weight.copy_(weights[known])


def _kernel_name(name: str) -> str | None:
    """Return a parameter's name within the trunk, None if it is no kernel of stem or bank."""
    if name.startswith("trunk."):
        own = name.removeprefix("trunk.")
        return own if _is_kept(own) else None
    owner, _, own = name.partition(".dictionary.")
    return f"dictionary.{own}" if own and owner.startswith("experts.") else None


def _is_kept(name: str) -> bool:
    return name.startswith(_KEPT)


class _Run:
    """A pre-training under way."""

    def __init__(
        self,
        model: MaskedBars,
        data: Mapping[str, MarketData],
        settings: TrainingConfig,
        seed: int,
        block: Block,
    ) -> None:
        served = model.modalities
        self.data = {m: own for m, own in data.items() if own.panel.modality in served}
        self.model, self.batch, self.seed, self.block = model, settings.batch, seed, block
        rule = Rule(settings.optimizer, RATE * settings.learning_rate, settings.weight_decay)
        self.optimizers = build_optimizers(model, rule, {})
        self.epoch_steps = max(1, settings.windows_per_epoch // settings.batch)
        self.steps = settings.epochs * self.epoch_steps
        self.step = 0
        self.history: list[Epoch] = []

    def advance(self) -> None:
        """Learn for one epoch and judge it on held-out windows."""
        self.model.train()
        sums = np.zeros(2)
        for _ in range(self.epoch_steps):
            sums += self._update()
            self.step += 1
        found = self.judged().values()
        shares = [[one[name] for one in found if name in one] for name in ("both", *ASKED)]
        held = [float(np.mean(own or [1.0])) for own in shares]  # asked by nobody: no better
        learned = float(sums[0] / sums[1])
        self.history.append(Epoch(len(self.history) + 1, self.step, learned, *held))

    def _update(self) -> npt.NDArray[np.float64]:
        """Take one step; return the sums of losses, the model's and the baseline's."""
        torch.manual_seed((self.seed << 32) + self.step)
        set_rates(self.optimizers, self.step, self.steps)
        self.model.zero_grad()
        ends = draw(self.data, batch=self.batch, seed=self.seed, step=self.step)
        total, sums = torch.zeros(()), np.zeros(2)
        for masked in self._masked(ends):
            own, base = _losses(self.model, masked)
            total = total + own.sum()
            sums += (own.detach().sum().item(), base.sum().item())
        loss = total / sum(len(own) for own in ends.values())
        if not torch.isfinite(loss):
            raise ModelError(
                f"pre-training: expected a finite loss, got {loss.item()} at step "
                f"{self.step + 1} of {self.steps}; lower training.learning_rate"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(self.optimizers, CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
        return sums

    def _masked(self, ends: Mapping[str, Positions]) -> Iterator[Masked]:
        """Hide bars of a step's windows, one batch a modality."""
        for modality in IMAGES:
            parts = []
            for place, (market, chosen) in enumerate(ends.items()):
                own = self.data[market]
                if own.panel.modality == modality:
                    generator = np.random.default_rng((self.seed, self.step, place, _PLACES))
                    after = generator.integers(self.block.latest + 1, size=chosen.size)
                    parts.append(hide(own, chosen, after, hidden=self.block.hidden))
            if parts:
                yield _joined(parts)

    @torch.no_grad()
    def judged(self) -> dict[str, dict[str, float]]:
        """Return by market the held-out loss as a share of the baseline's, of both and of each."""
        self.model.eval()
        found = {}
        for market, own in self.data.items():
            ends = spread_evenly(own.split.validation, HELD)
            if not ends.size:
                continue
            after = np.arange(ends.size, dtype=np.int64) % (self.block.latest + 1)
            masked = hide(own, ends, after, hidden=self.block.hidden)
            losses, base = (x.double().sum((0, 1)).numpy() for x in _losses(self.model, masked))
            shares = {"both": losses.sum() / base.sum()} if base.any() else {}
            # a question whose answers are all 0 is none
            named = zip(ASKED, losses, base, strict=True)
            shares |= {name: a / b for name, a, b in named if b > 0}
            found[market] = {name: float(share) for name, share in shares.items()}
        if not any(found.values()):
            raise DataError(
                "pre-training: expected held-out windows in at least one market, got none: bring "
                "more history or lower the markets' cut"
            )
        return found

    def state(self) -> TrainingState:
        """Return copies of everything that a resumed run needs."""
        parts = {
            "weights": {n: t.detach().clone() for n, t in self.model.state_dict().items()},
            "optimizer": optimizer_tensors(self.optimizers),
        }
        tensors = {f"{part}.{name}": t for part, own in parts.items() for name, t in own.items()}
        meta = {
            "step": self.step,
            "steps": self.steps,
            "seed": self.seed,
            "markets": list(self.data),
            "history": [epoch._asdict() for epoch in self.history],
        }
        return TrainingState(tensors, meta)

    def load(self, state: TrainingState) -> None:
        """Go on from what `state` returned.

        Raises:
            ModelError: it is of another pre-training, or incomplete.
        """
        tensors, meta = state
        wanted = {"steps": self.steps, "seed": self.seed, "markets": list(self.data)}
        check_same(meta, wanted, "pre-training")
        try:
            self.model.load_state_dict(section(tensors, "weights"))
        except RuntimeError as error:
            raise ModelError(
                f"checkpoint: it does not fit this model ({error}); delete it to start anew"
            ) from None
        load_optimizers(self.optimizers, section(tensors, "optimizer"))
        self.step = meta["step"]
        self.history = [Epoch(**fields) for fields in meta["history"]]


def _losses(model: MaskedBars, masked: Masked) -> tuple[Tensor, Tensor]:
    """Return Huber's losses (B, hidden, 2) of the model and of answering 0; 0 where unknown."""
    asked = torch.from_numpy(masked.asked)
    known = torch.isfinite(asked)
    target = asked.nan_to_num(0.0)
    answer = model(to_tensors(masked.inputs), torch.from_numpy(masked.after))
    own = functional.smooth_l1_loss(answer, target, reduction="none") * known
    base = functional.smooth_l1_loss(torch.zeros_like(target), target, reduction="none") * known
    return own, base


def _joined(parts: list[Masked]) -> Masked:
    """Lay the masked windows of several markets end to end."""
    first = parts[0].inputs
    fields = zip(*(part.inputs[1:] for part in parts), strict=True)
    inputs = Inputs(first.modality, *(np.concatenate(field) for field in fields))
    asked = np.concatenate([part.asked for part in parts])
    return Masked(inputs, asked, np.concatenate([part.after for part in parts]))
