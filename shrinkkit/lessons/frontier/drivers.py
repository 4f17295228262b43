"""Draw what a model needs to run: memory to load, memory to serve, and what fits on a device.

Every function takes plain numbers (and rows of the course's tables), does its sums with `sums`, and
returns a `Drawing`: the figure and the same in words. The lesson shows a drawing as it is; a widget
in `widgets` redraws it when a slider moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from shrinkkit.figures import words
from shrinkkit.figures.drawing import Drawing, log_ticks, new_axes
from shrinkkit.figures.style import INK, mark
from shrinkkit.lessons.frontier import sums as frontier
from shrinkkit.measure.kv import kv_cache_bytes_per_token

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

YES, NO = mark(0), mark(1)  # fits: a blue dot; does not: a hollow vermilion square


def draw_load(
    n_parameters: int, bits: float, devices: pd.DataFrame, usable_fraction: float = 0.7
) -> Drawing:
    """Draw which devices can load n_parameters at this many bits: a dot a device, a line to reach.

    devices: rows of `load_devices()`.
    usable_fraction: share of a device's memory that a model may use.
    """
    needed = frontier.memory_to_load_bytes(n_parameters, bits)
    rows = devices.sort_values("memory_bytes", ascending=False)
    able = [frontier.fits(needed, b, usable_fraction) for b in rows["memory_bytes"]]
    usable = [b * usable_fraction / 2**30 for b in rows["memory_bytes"]]
    told = ["fits" if fit else "too small" for fit in able]
    figure, ax = new_axes(7.6, 4.6)
    fitting = _dots(ax, rows["name"], usable, able, told, needed / 2**30, room=(2.5, 1.6))
    ax.set_xlabel(f"GiB that a model may use: {usable_fraction:.0%} of the memory (logarithmic)")
    ax.set_title(f"{words.count(n_parameters)} parameters at {bits:g} bits: {words.size(needed)}")
    said = (
        f"Dot chart of {len(rows)} devices and the memory that a model may use on each. A dashed "
        f"line marks the {words.size(needed)} to load. {words.count(n_parameters)} parameters at "
        f"{bits:g} bits fit on {len(fitting)} of {len(rows)} devices"
        + (f": {', '.join(reversed(fitting))}." if fitting else ".")
    )
    return Drawing(figure, said)


def draw_serve(
    model: Mapping,
    device: Mapping,
    *,
    bits: float,
    kv_bits: float,
    context_tokens: int,
    n_users: int,
    usable_fraction: float = 0.9,
) -> Drawing:
    """Draw memory against users: the weights stay level, the KV cache grows with every user.

    model: a row of `load_models()` with its layers and heads.
    device: a row of `load_devices()`.
    usable_fraction: 0.9, because a server runs nothing else.
    """
    weights, a_token = _bytes_of(model, bits, kv_bits)
    most = frontier.users_that_fit(
        weights, a_token, context_tokens, device["memory_bytes"], usable_fraction
    )
    room = device["memory_bytes"] * usable_fraction / 2**30
    users = [0, max(2 * most, int(1.25 * n_users), 4)]
    total = [
        frontier.memory_to_serve_bytes(weights, a_token, n, context_tokens) / 2**30 for n in users
    ]
    chosen = frontier.memory_to_serve_bytes(weights, a_token, n_users, context_tokens)
    fit = chosen / 2**30 <= room

    figure, ax = new_axes(7.6, 4.3)
    below = weights / 2**30
    ax.fill_between(users, 0, below, facecolor=YES.color, alpha=0.85, label="weights")
    ax.fill_between(
        users,
        below,
        total,
        facecolor="#f5cdb3",
        edgecolor=NO.color,
        hatch=NO.hatch,
        linewidth=0,
        label="KV cache",
    )
    ax.axhline(
        room, color=INK, linestyle="--", marker="", label=f"{device['name']}: {room:.3g} GiB"
    )
    ax.plot(
        [n_users],
        [chosen / 2**30],
        marker="o" if fit else "X",
        markersize=11,
        color=INK,
        linestyle="",
        label=f"{n_users} users: {words.size(chosen)}" + ("" if fit else ", too much"),
    )
    ax.set_xlim(0, users[1])
    ax.set_ylim(0, 1.25 * max(room, total[1]))
    ax.set_xlabel(f"users at once, {context_tokens:,} tokens each")
    ax.set_ylabel("GiB")
    ax.set_title(f"Serving {model['name']}: {most:,} users fit")
    ax.legend(loc="upper left", fontsize=9.5, ncols=2)
    said = (
        f"Area chart of memory in GiB against users at once, each with {context_tokens:,} tokens, "
        f"for {model['name']} at {bits:g} bits on {device['name']}. The weights take "
        f"{words.size(weights)} however many there are; the KV cache adds "
        f"{words.size(a_token * context_tokens)} for each user. {most:,} users fit below the "
        f"dashed line of usable memory. {n_users} users need {words.size(chosen)}, which "
        f"{'fits' if fit else 'does not fit'}."
    )
    return Drawing(figure, said)


def draw_fit(
    device: Mapping,
    models: pd.DataFrame,
    *,
    bits: float,
    context_tokens: int = 2048,
    usable_fraction: float = 0.7,
) -> Drawing:
    """Draw which models one user can run on a device, and the most tokens a second it could write.

    models: rows of `load_models()` with layers and heads. The cache is counted at 16 bits.
    """
    rows = models.dropna(subset=["head_dim"]).sort_values("parameters")
    room = device["memory_bytes"] * usable_fraction
    about = "about " if device["confidence"] == "weak" else ""
    needed, able, speeds, told = [], [], [], []
    for _, row in rows.iterrows():
        weights, a_token = _bytes_of(row, bits, kv_bits=16)
        total = frontier.memory_to_serve_bytes(weights, a_token, 1, context_tokens)
        needed.append(total / 2**30)
        able.append(frontier.fits(total, device["memory_bytes"], usable_fraction))
        speeds.append(frontier.decode_tokens_per_s(total, device["bandwidth_bytes_per_s"]))
        speed = f"at most {about}{_two(speeds[-1])} tokens/s"
        told.append(speed if able[-1] else "does not fit")

    figure, ax = new_axes(7.6, 0.36 * len(rows) + 1.7)
    fitting = _dots(ax, rows["name"], needed, able, told, room / 2**30, room=(3, 1.8))
    ax.set_xlabel("GiB of weights and cache (logarithmic); dashed: what a model may use")
    ax.set_title(f"{device['name']}, {bits:g}-bit weights, one user, {context_tokens:,} tokens")
    said = (
        f"Dot chart of the memory that {len(rows)} models need at {bits:g} bits with a cache of "
        f"{context_tokens:,} tokens, against {words.size(room)} usable on {device['name']}. "
        f"{len(fitting)} of {len(rows)} models fit"
        + (
            f"; the largest is {fitting[-1]}, at most {about}"
            f"{_two(speeds[len(fitting) - 1])} tokens a second."
            if fitting
            else "."
        )
    )
    return Drawing(figure, said)


def draw_speed(
    n_parameters: int,
    bandwidth_bytes_per_s: float,
    measured_tokens_per_s: Mapping[float, float],
    *,
    name: str,
) -> Drawing:
    """Draw the most tokens a second that memory allows, over bits, and what was measured.

    measured_tokens_per_s: bits for each weight -> tokens a second, for one user.
    """
    bits = [32, 16, 8, 6, 5, 4, 3, 2]
    limits = [
        frontier.decode_tokens_per_s(
            frontier.memory_to_load_bytes(n_parameters, b), bandwidth_bytes_per_s
        )
        for b in bits
    ]
    figure, ax = new_axes(7.2, 4.0)
    ax.plot(bits, limits, color=YES.color, marker=YES.marker, markersize=5, label="memory's limit")
    ax.plot(
        list(measured_tokens_per_s),
        list(measured_tokens_per_s.values()),
        color=NO.color,
        marker=NO.marker,
        markersize=9,
        linestyle="",
        label="measured",
    )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="bits for each weight, scales counted",
        ylabel="tokens/s, one user",
    )
    log_ticks(ax.yaxis)
    ax.set_xticks(bits, [str(b) for b in bits])
    ax.minorticks_off()
    ax.invert_xaxis()
    ax.set_title(f"{name}: fewer bits, higher limit")
    ax.legend(loc="upper left")
    told = ", ".join(f"{speed:.3g} at {b:g} bits" for b, speed in measured_tokens_per_s.items())
    said = (
        f"Line chart of the most tokens a second that memory allows {name}, both scales "
        f"logarithmic: it rises from {limits[0]:.3g} at 32 bits to {limits[-1]:.3g} at 2 bits. "
        f"Squares show what was measured: {told}."
    )
    return Drawing(figure, said)


def _bytes_of(model: Mapping, bits: float, kv_bits: float) -> tuple[int, float]:
    """Return the bytes of a model's weights, and of what its cache keeps of one token."""
    shape = (int(model[name]) for name in ("n_layers", "n_kv_heads", "head_dim"))
    weights = frontier.memory_to_load_bytes(int(model["parameters"]), bits)
    return weights, kv_cache_bytes_per_token(*shape, kv_bits)


def _two(number: float) -> str:
    """Write two digits that count: a limit made of a round bandwidth bears no more.

    >>> _two(9.39), _two(64.2), _two(1234)
    ('9.4', '64', '1,200')
    """
    return f"{float(f'{number:.2g}'):,g}"


def _dots(
    ax: Axes,
    names: Iterable[str],
    gib: list[float],
    able: list[bool],
    told: list[str],
    line: float,
    room: tuple[float, float],
) -> list[str]:
    """Draw a mark at so many GiB each, full where it fits, hollow where not, and a dashed line.

    Marks and no bars: a logarithmic axis has no zero for a bar to start from.

    told: written beside each, in a column; room: left and right of the shortest and the longest.
    Returns the names of those that fit.
    """
    for name, length, fit, text in zip(names, gib, able, told, strict=True):
        look = YES if fit else NO
        ax.plot(
            [length],
            [name],
            color=look.color,
            marker=look.marker,
            markersize=9,
            markerfacecolor=look.color if fit else "white",
            markeredgewidth=1.8,
            linestyle="",
        )
        ax.annotate(
            f"{length:.3g} GiB: {text}",
            (1.0, name),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            annotation_clip=False,
        )
    ax.tick_params(axis="y", colors=INK)
    ax.margins(y=0.06)
    ax.axvline(line, color=INK, linestyle="--", marker="")
    ax.set_xscale("log")
    ax.set_xlim(min(*gib, line) / room[0], max(*gib, line) * room[1])
    log_ticks(ax.xaxis)
    return [name for name, fit in zip(names, able, strict=True) if fit]
