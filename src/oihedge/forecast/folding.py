"""pytorch-forecasting's TFT as few tensors: what depends on its weights alone, worked out once a step.

A real number x enters its network only as x * w + b, so every linear map of that is a line in x too: the first layer of
a variable's network, its skip connection and its part in the choice among variables become slopes and levels. Networks
of equal shape are stacked. Gradients flow through all of it to the network's own parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch.nn import functional

from oihedge.forecast.threads import torch_threads

Tensor = torch.Tensor
Stack = Callable[[list[Tensor]], Tensor]
STACKED = (
    "slope", "level", "second.weight", "second.bias", "gate.weight", "gate.bias", "line", "scale", "shift",
)  # fmt: skip
"""What is stacked of networks of equal shape, as `fused.add_selected` takes it."""
_FOLDED = "_folded_once"


@dataclass(frozen=True)
class Choice:
    """How one of the two variable selections is folded.

    `names`: all variables; `groups`: those whose tensors are stacked, group by group; `others`: the rest, which go
    through the network's own modules one by one; `hidden`: size of the choosing network; `resampled`: whether its skip
    connection is normed.
    """

    key: str
    network: Any
    names: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    others: tuple[str, ...]

    @property
    def hidden(self) -> int:
        """Return the size of the choosing network's hidden layer."""
        return int(self.network.flattened_grn.fc1.out_features)

    @property
    def normed(self) -> bool:
        """Return whether the choosing network's skip connection has a norm of its own."""
        return hasattr(self.network.flattened_grn, "resample_norm")


@dataclass(frozen=True)
class Folded:
    """`tensors` by name; `direct`: parameters that are used as they are beside them."""

    network: Any
    tensors: Mapping[str, Tensor]
    past: Choice
    ahead: Choice
    direct: tuple[Tensor, ...]

    def cut_off(self) -> Folded:
        """Return the same with tensors that start a graph of their own."""
        return replace(self, tensors={name: one.detach().requires_grad_() for name, one in self.tensors.items()})


def fold(network: Any) -> Folded:
    """Fold a network's present weights."""
    with torch_threads(1):  # dozens of small products: to split them takes longer than to work them out
        return _fold(network)


def _fold(network: Any) -> Folded:
    past, ahead = _kept(network, "choices", lambda: _choices(network))
    piece, tensors = getattr(network, "one_piece", None), {}
    stack: Stack = torch.stack if piece is None else piece.stacked
    for choice in (past, ahead):
        tensors.update(_folded_choice(choice, stack))
        for number, names in enumerate(choice.groups):
            tensors.update(_stacked(f"{choice.key}.{number}", choice.network, names, stack))
    for side, module in (("past", network.lstm_encoder), ("ahead", network.lstm_decoder)):
        for layer in range(network.hparams.lstm_layers):
            of = {
                name: getattr(module, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            tensors[f"lstm.{side}.{layer}.in"] = of["weight_ih"]
            tensors[f"lstm.{side}.{layer}.bias"] = of["bias_ih"] + of["bias_hh"]
            tensors[f"lstm.{side}.{layer}.state"] = of["weight_hh"]
    tensors.update(_gate("local", network.post_lstm_gate_encoder, network.post_lstm_add_norm_encoder))
    tensors.update(_residual("rich", network.static_enrichment))
    attn = network.multihead_attn
    for kind in ("weight", "bias"):
        query, key = (torch.cat([getattr(one, kind) for one in heads]) for heads in (attn.q_layers, attn.k_layers))
        tensors[f"attend.query.{kind}"] = query * attn.d_k**-0.5
        tensors[f"attend.key.{kind}"] = key
        tensors[f"attend.value.{kind}"] = getattr(attn.v_layer, kind)
    tensors["attend.out"] = attn.w_h.weight
    tensors.update(_gate("attended", network.post_attn_gate_norm.glu, network.post_attn_gate_norm.add_norm))
    tensors.update(_residual("wise", network.pos_wise_ff))
    tensors.update(_gate("before_out", network.pre_output_gate_norm.glu, network.pre_output_gate_norm.add_norm))
    layers = list(network.output_layer) if network.n_targets > 1 else [network.output_layer]
    tensors["out.weight"] = torch.cat([layer.weight for layer in layers])
    tensors["out.bias"] = torch.cat([layer.bias for layer in layers])
    return Folded(network, tensors, past, ahead, tuple(_direct(network, (past, ahead))))


def folded_once(network: Any) -> Folded:
    """Fold a network that only predicts, or return what was folded before: its weights have not been written since."""
    parts = _kept(network, "parameters", lambda: list(network.parameters()))
    marks = [(part.data_ptr(), part._version) for part in parts]
    before = network.__dict__.get(_FOLDED)
    if before is None or before[0] != marks:
        with torch.inference_mode():
            folded = fold(network)
            whole = {name: one.contiguous() for name, one in folded.tensors.items()}
        before = marks, replace(folded, tensors=whole)
        network.__dict__[_FOLDED] = before
    return before[1]  # type: ignore[no-any-return]


def _kept(module: Any, key: Any, make: Callable[[], Any]) -> Any:
    """Return what was found out about a module before: looking its hundreds of parts up takes as long as using them."""
    kept = module.__dict__.setdefault("_kept_by_folding", {})
    if key not in kept:
        kept[key] = make()
    return kept[key]


def _choices(network: Any) -> tuple[Choice, Choice]:
    return _choice("past", network.encoder_variable_selection), _choice("ahead", network.decoder_variable_selection)


def _choice(key: str, network: Any) -> Choice:
    names = tuple(network.input_sizes)

    def shape(name: str) -> tuple[Any, ...]:
        net = network.single_variable_grns[name]
        return (net.input_size, net.hidden_size)

    def straight(name: str) -> bool:
        net = network.single_variable_grns[name]
        return name in network.prescalers and hasattr(net, "fc1") and hasattr(net, "resample_norm")

    lines = sorted(filter(straight, names), key=shape) if len(names) > 1 else []
    groups = tuple(tuple(group) for _, group in groupby(lines, key=shape))
    return Choice(key, network, names, groups, tuple(name for name in names if name not in lines))


def _folded_choice(choice: Choice, stack: Stack) -> dict[str, Tensor]:
    """Fold the network that weighs the variables: from each variable to its hidden layer and its skip connection."""
    if len(choice.names) < 2:
        return {}
    network, grn, key = choice.network, choice.network.flattened_grn, choice.key
    widths = [network.input_sizes[name] for name in choice.names]
    skip = _blend(sum(widths), len(choice.names), grn.fc1.weight)
    if choice.normed and grn.resample_norm.trainable_add:
        skip = skip * (grn.resample_norm.mask.sigmoid() * 2.0)[:, None]
    both = torch.cat([grn.fc1.weight, skip])
    level = torch.cat([grn.fc1.bias, both.new_zeros(len(choice.names))])
    of = dict(zip(choice.names, torch.split(both, widths, dim=1), strict=True))
    tensors = _residual(f"{key}.choose", grn)
    del tensors[f"{key}.choose.in.weight"], tensors[f"{key}.choose.in.bias"]
    for number, names in enumerate(choice.groups):
        slope, constant = _prescaled(network, names, stack)
        mine = torch.stack([of[name] for name in names])
        tensors[f"{key}.{number}.choose"] = torch.bmm(mine, slope).squeeze(-1)
        level = level + torch.bmm(mine, constant[..., None]).squeeze(-1).sum(0)
    for name in choice.others:
        tensors[f"{key}.other.{name}"] = of[name].t()
    tensors[f"{key}.choose.level"] = level
    if choice.normed:
        tensors[f"{key}.choose.skip.scale"] = grn.resample_norm.norm.weight
        tensors[f"{key}.choose.skip.shift"] = grn.resample_norm.norm.bias
    return tensors


def _stacked(key: str, network: Any, names: Sequence[str], stack: Stack) -> dict[str, Tensor]:
    """Stack the networks of reals: slope and level of the first layer and of the skip connection, and the rest."""
    nets = network.single_variable_grns

    def each(*path: str) -> Tensor:
        return stack(_kept(network, (names, path), lambda: [_at(nets[name], path) for name in names]))

    slope, level = _prescaled(network, names, stack)
    first, level = each("fc1", "weight"), level[..., None]
    first_layer = torch.bmm(first, slope), torch.bmm(first, level) + each("fc1", "bias")[..., None]
    resample = nets[names[0]].resample_norm
    skip = _blend(slope.shape[1], resample.output_size, first).expand(len(names), -1, -1)
    lines = [torch.bmm(skip, slope), torch.bmm(skip, level)]
    if resample.trainable_add:
        gain = each("resample_norm", "mask").sigmoid()[..., None] * 2.0
        lines = [line * gain for line in lines]
    norm = each("resample_norm", "norm", "weight"), each("resample_norm", "norm", "bias")
    return {
        f"{key}.slope": first_layer[0].squeeze(-1),
        f"{key}.level": first_layer[1].squeeze(-1),
        f"{key}.second.weight": each("fc2", "weight").transpose(1, 2),
        f"{key}.second.bias": each("fc2", "bias"),
        f"{key}.gate.weight": each("gate_norm", "glu", "fc", "weight").transpose(1, 2),
        f"{key}.gate.bias": each("gate_norm", "glu", "fc", "bias"),
        f"{key}.line": torch.stack([*(line.squeeze(-1) for line in lines), *norm], dim=1),
        f"{key}.scale": each("gate_norm", "add_norm", "norm", "weight"),
        f"{key}.shift": each("gate_norm", "add_norm", "norm", "bias"),
    }


def _prescaled(network: Any, names: Sequence[str], stack: Stack) -> tuple[Tensor, Tensor]:
    """Return the prescalers' weights (variables, size, 1) and biases (variables, size)."""
    pre = _kept(network, names, lambda: [[one.weight, one.bias] for one in (network.prescalers[n] for n in names)])
    return stack([weight for weight, _ in pre]), stack([bias for _, bias in pre])


def _at(module: Any, path: Sequence[str]) -> Tensor:
    for name in path:
        module = getattr(module, name)
    return module  # type: ignore[no-any-return]


def _residual(key: str, grn: Any) -> dict[str, Tensor]:
    return {
        f"{key}.in.weight": grn.fc1.weight,
        f"{key}.in.bias": grn.fc1.bias,
        f"{key}.second.weight": grn.fc2.weight,
        f"{key}.second.bias": grn.fc2.bias,
        **_gate(key, grn.gate_norm.glu, grn.gate_norm.add_norm),
    }


def _gate(key: str, glu: Any, add_norm: Any) -> dict[str, Tensor]:
    return {
        f"{key}.gate.weight": glu.fc.weight,
        f"{key}.gate.bias": glu.fc.bias,
        f"{key}.scale": add_norm.norm.weight,
        f"{key}.shift": add_norm.norm.bias,
    }


def _blend(size: int, to: int, like: Tensor) -> Tensor:
    """Return the matrix (to, size) by which ResampleNorm interpolates, of the type of `like`."""
    return _interpolation(size, to, like.dtype, like.device)


@functools.lru_cache(maxsize=32)
def _interpolation(size: int, to: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # what is made in that mode takes part in no gradient later
        every = torch.eye(size, dtype=dtype, device=device)
        if size == to:
            return every
        return functional.interpolate(every[None], to, mode="linear", align_corners=True)[0].t()


def _direct(network: Any, choices: Sequence[Choice]) -> Iterator[Tensor]:
    seen: set[int] = set()
    modules = [network.input_embeddings] if any(choice.others for choice in choices) else []
    for choice in choices:
        for name in choice.others:
            modules.append(choice.network.single_variable_grns[name])
            modules += [choice.network.prescalers[name]] if name in choice.network.prescalers else []
    for one in (parameter for module in modules for parameter in module.parameters()):
        if id(one) not in seen:
            seen.add(id(one))
            yield one
