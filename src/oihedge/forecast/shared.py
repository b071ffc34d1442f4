"""pytorch-forecasting's TFT over segments: what windows have in common is computed once per time step.

Variable selection depends on nothing but the time step and the series' static variables, and so do the input parts of
the LSTM's gates. A segment is a run of rows of one series; its windows are views on what was computed for the rows.
From the recurrent state on, every window goes its own way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from oihedge.forecast.folding import STACKED, Choice, Folded
from oihedge.forecast.fused import (
    Dropper,
    add_selected,
    attend,
    glu_add_norm,
    in_float32,
    lstm,
    reduced,
    shift_elu,
)

Tensor = torch.Tensor


@dataclass(frozen=True)
class Segments:
    """A batch of windows in segments of equally many rows.

    `reals` (segments, rows, reals) and `categoricals` (segments, rows, categoricals) are whole rows of one series each;
    `offsets` (segments, windows) are the first encoder rows of the windows within their segment.
    """

    reals: Tensor
    categoricals: Tensor
    offsets: Tensor
    encoder: int
    horizon: int

    def part(self, start: int, end: int) -> Segments:
        """Return the segments from `start` to before `end`."""
        return Segments(
            self.reals[start:end], self.categoricals[start:end], self.offsets[start:end], self.encoder, self.horizon
        )


def contexts(folded: Folded, x: Segments, drop: Dropper) -> dict[str, Tensor]:
    """Return what the series' static variables say, per segment: of the choice, the LSTM's start and the enrichment."""
    network = folded.network
    static = _static(network, x, drop)
    grns = {
        "choosing": network.static_context_variable_selection, "hidden": network.static_context_initial_hidden_lstm,
        "cell": network.static_context_initial_cell_lstm, "enriching": network.static_context_enrichment,
    }  # fmt: skip
    said = {name: _module_residual(grn, static, drop) for name, grn in grns.items()}
    said["enriching"] = functional.linear(said["enriching"], network.static_enrichment.context.weight)
    choosing = said.pop("choosing")
    for choice in (folded.past, folded.ahead):
        if len(choice.names) > 1:
            context = choice.network.flattened_grn.context
            said[f"{choice.key}.choosing"] = functional.linear(choosing, context.weight)
    return said


def forward_shared(folded: Folded, said: Mapping[str, Tensor], x: Segments, drop: Dropper) -> list[Tensor]:
    """Predict what `TemporalFusionTransformer.forward` predicts, for every window of `x`.

    Args:
        folded: the weights.
        said: `contexts` of these segments.
        x: the windows.
        drop: how to drop and to compute.

    Returns:
        Per target (windows, horizon, outputs), segment by segment.
    """
    network, w = folded.network, folded.tensors
    with reduced(x.reals.device, drop.bf16):
        out = _decoded(folded, said, x, drop)
    outputs = functional.linear(out, w["out.weight"], w["out.bias"])
    layers = network.output_layer if network.n_targets > 1 else [network.output_layer]
    return list(torch.split(outputs, [layer.out_features for layer in layers], dim=-1))


def _decoded(folded: Folded, said: Mapping[str, Tensor], x: Segments, drop: Dropper) -> Tensor:
    """Return what the output layer takes (windows, horizon, hidden)."""
    network, w = folded.network, folded.tensors
    encoder, horizon = x.encoder, x.horizon
    segments, windows = x.offsets.shape
    rows = x.reals.shape[1]
    past = _select(folded.past, w, said, x, (0, rows - horizon), network, drop)
    ahead = _select(folded.ahead, w, said, x, (encoder, rows), network, drop)
    of = torch.arange(segments, device=x.offsets.device).repeat_interleave(windows)
    begin_past = x.offsets.flatten() + of * (rows - horizon)
    begin_ahead = x.offsets.flatten() + of * (rows - encoder)
    states = said["hidden"][of], said["cell"][of]
    lstm_past, lstm_ahead = _recur(folded, (past, begin_past), (ahead, begin_ahead), states, (encoder, horizon), drop)
    gate = network.post_lstm_gate_encoder.dropout
    local_past = _gate_norm(w, "local", lstm_past, past.flatten(0, 1), drop, gate, begin_past)
    local_ahead = _gate_norm(w, "local", lstm_ahead, ahead.flatten(0, 1), drop, gate, begin_ahead)
    local = torch.cat([local_past, local_ahead], dim=1)
    rich = _residual(w, "rich", network.static_enrichment, local, said["enriching"][of], drop)
    rich_ahead = rich[:, encoder:]
    attended = _attend(folded, rich_ahead, rich, drop)
    out = _gate_norm(w, "attended", attended, rich_ahead, drop, network.post_attn_gate_norm.glu.dropout)
    out = _residual(w, "wise", network.pos_wise_ff, out, None, drop)
    return _gate_norm(w, "before_out", out, local_ahead, drop, network.pre_output_gate_norm.glu.dropout)


def _static(network: Any, x: Segments, drop: Dropper) -> Tensor:
    names, selection = network.static_variables, network.static_variable_selection
    if not names:
        return x.reals.new_zeros(len(x.offsets), network.hparams.hidden_size)
    vectors = _vectors(network, x, names, (0, 1))
    scaled = {n: _scaled(selection, n, vectors[n][:, 0]) for n in selection.input_sizes}
    out = {n: _variable(selection.single_variable_grns[n], one, drop) for n, one in scaled.items()}
    if len(out) == 1:
        return next(iter(out.values()))
    weights = _module_residual(selection.flattened_grn, torch.cat(list(scaled.values()), dim=-1), drop).softmax(dim=-1)
    return (torch.stack(list(out.values()), dim=-1) * weights[:, None]).sum(-1)


def _vectors(network: Any, x: Segments, names: Any, span: tuple[int, int]) -> dict[str, Tensor]:
    """Return the variables `names` of rows [span) as vectors: reals as they are, categoricals embedded."""
    cut, reals = slice(*span), network.hparams.x_reals
    found = {name: x.reals[:, cut, reals.index(name), None] for name in names if name in reals}
    if len(found) < len(names):
        embedded = network.input_embeddings(x.categoricals[:, cut])
        found.update({name: embedded[name] for name in names if name not in found})
    return found


def _select(
    choice: Choice, w: Mapping[str, Tensor], said: Mapping[str, Tensor], x: Segments, span: tuple[int, int],
    network: Any, drop: Dropper,
) -> Tensor:  # fmt: skip
    """Do what VariableSelectionNetwork.forward does, for rows [span): (segments, rows, hidden)."""
    lead, key = (len(x.offsets), span[1] - span[0]), choice.key
    vectors = _vectors(network, x, choice.others, span)
    others = {name: _scaled(choice.network, name, one) for name, one in vectors.items()}
    if len(choice.names) < 2:
        if not choice.names:
            return said["hidden"].new_zeros(*lead, said["hidden"].shape[-1])
        (name,) = choice.names
        return _variable(choice.network.single_variable_grns[name], others[name], drop)
    columns = {name: i for i, name in enumerate(network.hparams.x_reals)}
    values = [
        x.reals[:, slice(*span), [columns[name] for name in names]].flatten(0, 1).t().contiguous()
        for names in choice.groups
    ]
    weights = _weigh(choice, w, said[f"{key}.choosing"], values, others, lead, drop)
    place = {name: i for i, name in enumerate(choice.names)}
    flat = weights.flatten(0, 1).t()
    parts = []
    for number, names in enumerate(choice.groups):
        at, one = f"{key}.{number}", choice.network.single_variable_grns[names[0]]
        mine = flat if len(names) == len(flat) else flat[[place[name] for name in names]]
        eps = one.resample_norm.norm.eps, one.gate_norm.add_norm.norm.eps
        of = [w[f"{at}.{part}"] for part in STACKED]
        parts.append(add_selected(values[number], mine, of, eps, one.gate_norm.glu.dropout, drop).view(*lead, -1))
    for name, one in others.items():
        parts.append(weights[..., place[name], None] * _variable(choice.network.single_variable_grns[name], one, drop))
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def _weigh(
    choice: Choice, w: Mapping[str, Tensor], choosing: Tensor, values: list[Tensor], others: Mapping[str, Tensor],
    lead: tuple[int, int], drop: Dropper,
) -> Tensor:  # fmt: skip
    """Return the weights (segments, rows, variables)."""
    key, grn = choice.key, choice.network.flattened_grn
    total = w[f"{key}.choose.level"]
    for number, of_group in enumerate(values):
        total = torch.addmm(total, of_group.t(), w[f"{key}.{number}.choose"])
    for name, one in others.items():
        total = torch.addmm(total, one.flatten(0, 1), w[f"{key}.other.{name}"])
    hidden, skip = torch.split(in_float32(total).view(*lead, -1), [choice.hidden, len(choice.names)], dim=-1)
    if choice.normed:
        scale, shift = w[f"{key}.choose.skip.scale"], w[f"{key}.choose.skip.shift"]
        skip = functional.layer_norm(skip, scale.shape, scale, shift, grn.resample_norm.norm.eps)
    hidden = shift_elu(hidden, choosing, drop)
    hidden = functional.linear(hidden, w[f"{key}.choose.second.weight"], w[f"{key}.choose.second.bias"])
    out = _gate_norm(w, f"{key}.choose", hidden, skip, drop, grn.gate_norm.glu.dropout)
    return functional.softmax(out, dim=-1)


def _recur(
    folded: Folded, past: tuple[Tensor, Tensor], ahead: tuple[Tensor, Tensor], states: tuple[Tensor, Tensor],
    steps: tuple[int, int], drop: Dropper,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run encoder and decoder LSTM over all windows of `past` and `ahead`: rows (segments, rows, hidden) and starts."""
    network, w = folded.network, folded.tensors
    layers = network.hparams.lstm_layers
    for layer in range(layers):
        inputs = [w[f"lstm.past.{layer}.{name}"] for name in ("in", "bias", "state")]
        out_past, *after = lstm(*past, steps[0], states, inputs, drop)
        inputs = [w[f"lstm.ahead.{layer}.{name}"] for name in ("in", "bias", "state")]
        out_ahead, *_ = lstm(*ahead, steps[1], (after[0], after[1]), inputs, drop)
        if layer + 1 < layers:
            between = torch.nn.Dropout(network.lstm_encoder.dropout)
            past, ahead = (
                (drop(out, between), torch.arange(len(out), device=out.device) * out.shape[1])
                for out in (out_past, out_ahead)
            )
    return out_past, out_ahead


def _attend(folded: Folded, ahead: Tensor, x: Tensor, drop: Dropper) -> Tensor:
    """Let the hours `ahead`, the last of x, look at those of x."""
    attn, w = folded.network.multihead_attn, folded.tensors
    query, key, value = (
        functional.linear(rows, w[f"attend.{name}.weight"], w[f"attend.{name}.bias"])
        for name, rows in (("query", ahead), ("key", x), ("value", x))
    )
    head = attend(query, key, value, attn.n_head, folded.network.hparams.causal_attention, drop)
    out = functional.linear(drop(head, attn.dropout).mean(dim=1), w["attend.out"])
    return drop(out, attn.dropout)


def _residual(w: Mapping[str, Tensor], key: str, grn: Any, x: Tensor, context: Tensor | None, drop: Dropper) -> Tensor:
    """Do what GatedResidualNetwork.forward does where input and output have one size; context is (blocks, hidden)."""
    shift = w[f"{key}.in.bias"][None]
    blocks = x.reshape(1, -1, x.shape[-1]) if context is None else x
    hidden = functional.linear(blocks, w[f"{key}.in.weight"])
    hidden = shift_elu(hidden, shift if context is None else shift + context, drop).view_as(x)
    hidden = functional.linear(hidden, w[f"{key}.second.weight"], w[f"{key}.second.bias"])
    return _gate_norm(w, key, hidden, x, drop, grn.gate_norm.glu.dropout)


def _gate_norm(
    w: Mapping[str, Tensor], key: str, x: Tensor, skip: Tensor, drop: Dropper, dropout: Any,
    starts: Tensor | None = None,
) -> Tensor:  # fmt: skip
    gated = functional.linear(drop(x, dropout), w[f"{key}.gate.weight"])
    return glu_add_norm(gated, w[f"{key}.gate.bias"], skip, starts, (w[f"{key}.scale"], w[f"{key}.shift"]), drop)


def _module_residual(grn: Any, x: Tensor, drop: Dropper) -> Tensor:
    """Apply one of the network's own GatedResidualNetworks, with our dropout."""
    skip = x
    if grn.input_size != grn.output_size and not grn.residual:
        skip = grn.resample_norm(x)
    hidden = drop(grn.fc2(functional.elu(grn.fc1(x))), grn.gate_norm.glu.dropout)
    gate, norm = grn.gate_norm.glu.fc, grn.gate_norm.add_norm.norm
    gated = functional.linear(hidden, gate.weight)
    return glu_add_norm(gated, gate.bias, skip, None, (norm.weight, norm.bias), drop)


def _variable(single: Any, x: Tensor, drop: Dropper) -> Tensor:
    """Apply a variable's own network: a GatedResidualNetwork, or the ResampleNorm of an embedding."""
    return _module_residual(single, x, drop) if hasattr(single, "fc1") else single(x)


def _scaled(selection: Any, name: str, x: Tensor) -> Tensor:
    return in_float32(selection.prescalers[name](x)) if name in selection.prescalers else x
