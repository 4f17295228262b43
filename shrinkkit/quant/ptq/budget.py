"""Spend bits where they matter: mixed precision under a budget of bits per weight.

Some layers bear 2 bits, others suffer at 4. Giving all of them 3 is fair and wasteful. Two things
are needed to do better: how much each layer would cost at each width, in one currency, and a way of
spending.

The currency is the loss itself. Near a trained model, moving the weights of a layer by d raises the
loss by about 1/2 * sum of F * d², where F is the diagonal of the Fisher information (the second
derivative that LeCun's optimal brain damage uses, 1989): for weight [o, j] the mean over tokens of
(gradient at output o)² * (input j)². One pass forward and one back over a few windows of text give
F for every layer, and d is known for every format: it is what rounding does. So each layer gets a
price list in a few seconds, without trying anything. HAWQ (arXiv 1911.03852) and SqueezeLLM (arXiv
2306.07629) weigh by the same curvature.

The spending is greedy: begin with the cheapest format everywhere, and again and again buy the
upgrade that removes the most loss for each bit. On price lists with falling returns this is
optimal, up to the last purchase that no longer fits (the fractional knapsack argument).

The estimate takes layers to be independent and rounding to be to nearest. GPTQ then does better
than the estimate everywhere, which does not change who needs the bits most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from shrinkkit.errors import InputError
from shrinkkit.quant.grids.affine import fake_quantize
from shrinkkit.quant.grids.formats import Format
from shrinkkit.surgery.fitness import refuse_unfit
from shrinkkit.surgery.matrices import matrix
from shrinkkit.surgery.parts import find_linears
from shrinkkit.surgery.running import check_tokens, check_vocabulary, device_of, progress

Prices = Mapping[str, Mapping[Format, float]]


def rounding_prices(
    model: nn.Module,
    tokens: torch.Tensor,
    formats: Sequence[Format],
    *,
    batch_size: int = 2,
) -> dict[str, dict[Format, float]]:
    """Estimate how much each format for each layer raises the loss, from one backward pass.

    LeCun et al. 1989 (optimal brain damage), equation 5, with the empirical Fisher diagonal:
    price = 1/2 * sum over weights of F * (fake_quantize(w) - w)².

    model: a float language model.
    tokens: [n_samples, seq_len] integer; a few windows of text are enough.
    formats: the grids to price.
    batch_size: windows that go through the model at once.
    Returns {layer: {format: rise of the loss in nats a token}}, the layers of the blocks in order.
    Raises InputError for a compressed model, no formats, or tokens that are no windows.
    """
    if not formats:
        raise InputError("formats is empty: give the grids to choose from, such as int_format(4).")
    refuse_unfit(model)
    tokens = check_tokens(tokens)
    check_vocabulary("the model", model, tokens)
    layers = find_linears(model)
    prices = {name: dict.fromkeys(formats, 0.0) for name in layers}
    n_tokens = tokens.shape[0] * (tokens.shape[1] - 1)

    def watch(name: str) -> Callable[..., None]:
        def after_forward(_: nn.Module, args: tuple, y: torch.Tensor) -> None:
            x = args[0].detach().flatten(0, -2).float()  # [tokens, in]

            def with_gradient(gradient: torch.Tensor) -> None:
                g = gradient.flatten(0, -2).float()  # [tokens, out]
                fisher = g.square().t() @ x.square()  # [out, in]
                for fmt in formats:
                    rise = (fisher * _squared_change(layers[name], name, fmt)).sum().item()
                    prices[name][fmt] += rise / (2 * n_tokens)

            y.register_hook(with_gradient)

        return after_forward

    training = model.training
    requires = {parameter: parameter.requires_grad for parameter in model.parameters()}
    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    embedding = model.get_input_embeddings()
    # a gradient has to start somewhere: at the embedding's output, not in any weight
    handles.append(embedding.register_forward_hook(lambda *args: args[2].requires_grad_()))
    try:
        model.eval().requires_grad_(False)
        for batch in progress(tokens.split(batch_size), "pricing layers"):
            batch = batch.to(device_of(model))
            with torch.enable_grad():
                logits = model(batch, use_cache=False).logits[:, :-1]
                # summed: each token's gradient is its own, not its share of a mean
                cross_entropy(
                    logits.flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="sum"
                ).backward()
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
        for parameter, required in requires.items():
            parameter.requires_grad_(required)
    return prices


def _squared_change(layer: nn.Module, name: str, fmt: Format) -> torch.Tensor:
    """Return (fake_quantize(w) - w)² of a layer, made anew each time so that nothing is held."""
    weight = matrix(layer)
    try:
        return (fake_quantize(weight, fmt) - weight.float()).square_()
    except InputError as error:
        raise InputError(f"Layer {name}: {error}") from None


def spend(
    prices: Prices, shapes: Mapping[str, tuple[int, int]], budget: float
) -> dict[str, Format]:
    """Choose a format for each layer: the least total price within a budget of bits.

    prices: {layer: {format: price}}; lower is better.
    shapes: {layer: (out_features, in_features)}.
    budget: mean bits a weight over all these layers, scales and zero points counted.
    Returns {layer: format}. Within the budget always; the total price is at most that of the best
    choice plus one layer's step.
    Raises InputError for a budget below the cheapest formats, or layers without a shape.

    >>> fmt2, fmt4 = Format(2, scale_bits=32), Format(4, scale_bits=32)
    >>> prices = {"calm": {fmt2: 1.0, fmt4: 0.9}, "touchy": {fmt2: 9.0, fmt4: 0.1}}
    >>> chosen = spend(prices, {"calm": (8, 3200), "touchy": (8, 3200)}, budget=3.05)
    >>> {name: fmt.bits for name, fmt in chosen.items()}
    {'calm': 2, 'touchy': 4}
    """
    missing = [name for name in prices if name not in shapes]
    if missing or not prices:
        raise InputError(f"shapes lacks {missing[:3]}." if missing else "prices is empty.")
    ladders = {name: _ladder(prices[name], shapes[name]) for name in prices}
    weights = sum(rows * columns for rows, columns in shapes.values())
    spent = sum(ladder[0][0] for ladder in ladders.values())
    if not (isinstance(budget, (int, float)) and spent <= budget * weights):
        raise InputError(
            f"budget={budget!r} bits a weight is too little: the cheapest formats given take "
            f"{spent / weights:.3f}. Raise the budget, or offer a format of fewer bits."
        )
    at = dict.fromkeys(ladders, 0)
    while True:
        offers = []
        for name, ladder in ladders.items():
            if at[name] + 1 < len(ladder):
                (bits, price, _), (more, less, _) = ladder[at[name]], ladder[at[name] + 1]
                if spent + more - bits <= budget * weights:
                    offers.append(((price - less) / (more - bits), name, more - bits))
        if not offers:
            return {name: ladders[name][step][2] for name, step in at.items()}
        _, name, extra = max(offers)  # equal offers: the last name, so that runs agree
        at[name] += 1
        spent += extra


def _ladder(
    prices: Mapping[Format, float], shape: tuple[int, int]
) -> list[tuple[float, float, Format]]:
    """Return [(bits, price, format)] with falling returns: the lower convex hull of a price list.

    A format above the hull is never worth buying: a mixture of its neighbours is cheaper.
    """
    size = shape[0] * shape[1]
    found = sorted(
        ((fmt.bits_per_weight(shape) * size, price, fmt) for fmt, price in prices.items()),
        key=lambda rung: rung[:2],
    )
    hull: list[tuple[float, float, Format]] = []
    for rung in found:
        if hull and rung[1] >= hull[-1][1]:
            continue  # dearer in bits, no better
        while len(hull) >= 2 and _gain(hull[-2], hull[-1]) <= _gain(hull[-1], rung):
            hull.pop()
        hull.append(rung)
    return hull


def _gain(below: tuple[float, float, Format], above: tuple[float, float, Format]) -> float:
    return (below[1] - above[1]) / max(above[0] - below[0], 1e-9)


def mean_bits(chosen: Mapping[str, Format], shapes: Mapping[str, tuple[int, int]]) -> float:
    """Return the mean bits a weight of layers with these formats, scales and zeros counted.

    >>> mean_bits({"a": Format(2, scale_bits=32)}, {"a": (4, 16)})
    4.0
    """
    sizes: Iterable[int] = [shapes[name][0] * shapes[name][1] for name in chosen]
    bits = sum(
        fmt.bits_per_weight(shapes[name]) * size
        for (name, fmt), size in zip(chosen.items(), sizes, strict=True)
    )
    return bits / sum(sizes)


def choose_formats(
    model: nn.Module,
    tokens: torch.Tensor,
    formats: Sequence[Format],
    budget: float,
    *,
    batch_size: int = 2,
) -> dict[str, Format]:
    """Choose a format for each linear layer of the blocks within a budget of bits per weight.

    model, tokens, formats, batch_size: as for `rounding_prices`; budget: as for `spend`.
    Returns {layer: format}, for `gptq_model(..., formats=...)`.
    Raises InputError as both do.
    """
    shapes = {name: tuple(matrix(layer).shape) for name, layer in find_linears(model).items()}
    prices = rounding_prices(model, tokens, formats, batch_size=batch_size)
    return spend(prices, shapes, budget)
