"""Call a learner's function so that whatever goes wrong is told in plain words.

An `Attempt` stands for the learner's function in a judge. Each call gives it copies of the
arguments, draws the curtain (`curtain.py`) while it runs, and then asks: did it raise, return None,
change an argument, replace a name of torch (`originals.py`)? Now and then it is called a second
time with the same arguments, and has to return the same.
"""

from __future__ import annotations

import contextlib
import io
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from shrinkkit.checks.copies import copied, difference, settled
from shrinkkit.checks.originals import require_originals
from shrinkkit.checks.results import describe, must, type_name
from shrinkkit.checks.run import this_run
from shrinkkit.errors import CheckFailed

CHEAP_S = 0.2  # a call that took longer is not repeated


class Attempt:
    """A learner's function, called like the function itself.

    name: what the exercise calls it, for messages.
    curtain: what to hold around each call; None leaves everything open.
    """

    def __init__(
        self,
        function: Callable,
        name: str,
        curtain: Callable[[], AbstractContextManager] | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.curtain = curtain or nullcontext
        self.n_calls = 0

    def __call__(self, *arguments: Any) -> Any:
        """Call the function on copies of the arguments and return its result.

        Raises CheckFailed when it raises, returns None, changes an argument in place, or returns
        something else when it is called again.
        """
        call = f"{self.name}({', '.join(describe(a) for a in arguments)})"
        start = time.perf_counter()
        result = self._answer(arguments, call)
        cheap = time.perf_counter() - start < CHEAP_S
        self.n_calls += 1
        is_due = self.n_calls & (self.n_calls - 1) == 0  # the calls 1, 2, 4, 8, ...
        if cheap and is_due and not this_run().replays:
            before = settled(result)
            unseen = io.StringIO()  # what it prints is there already
            with contextlib.redirect_stdout(unseen), contextlib.redirect_stderr(unseen):
                again = self._answer(arguments, call)
            must(
                difference(before, settled(again)) is None,
                f"`{call}` returned something else when it was called again with the same "
                "arguments: it keeps something from call to call, or draws random numbers. Make "
                "what it needs anew inside of it.",
            )
        return result

    def backward(self, result: torch.Tensor, gradient: torch.Tensor) -> None:
        """Run autograd backward from a result, through what may be the learner's own code.

        Raises CheckFailed when it raises.
        """
        self._run(
            lambda: torch.Tensor.backward(result, gradient), f"the backward pass of {self.name}"
        )

    def _answer(self, arguments: tuple, call: str) -> Any:
        """Call the function on copies, and look at them afterwards."""
        copies = [copied(argument) for argument in arguments]
        result = self._run(lambda: self.function(*copies), call)
        must(
            result is not None,
            f"`{call}` returned None: it is not written yet, or its `return` is missing.",
        )
        for n, (given, copy) in enumerate(zip(arguments, copies, strict=True), start=1):
            change = difference(given, copy)
            if change is not None:
                where = f" ({change})" if change else ""
                raise CheckFailed(
                    f"`{call}` changed its argument {n} in place{where}, and the caller still "
                    "needs it. Work on a new tensor: `x[...] = ` and methods that end in _ change "
                    "theirs."
                )
        return result

    def _run(self, action: Callable[[], Any], call: str) -> Any:
        """Run learner's code behind the curtain; torch's settings come back as they were."""
        float_dtype = torch.get_default_dtype()
        try:
            with torch.set_grad_enabled(torch.is_grad_enabled()), self.curtain():
                result = action()
        except (CheckFailed, KeyboardInterrupt):  # something that is closed, or the stop button
            raise
        except NotImplementedError as error:
            if error.args:  # one of torch's own: "not implemented for 'Half'"
                raise CheckFailed(self._report(error, call)) from error
            stub = traceback.extract_tb(error.__traceback__)[-1].name
            raise CheckFailed(
                f"`{stub}` is not written yet: replace `raise NotImplementedError()` with your "
                "code and run its cell, then this one."
            ) from None
        except BaseException as error:  # SystemExit and its like, too
            raise CheckFailed(self._report(error, call)) from error
        finally:
            torch.set_default_dtype(float_dtype)
        if not this_run().replays:
            require_originals()
        return result

    def _report(self, error: BaseException, call: str) -> str:
        """Tell which line of the learner's code raised, and for what input."""
        code = getattr(self.function, "__code__", None)
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if code is not None and f.filename == code.co_filename]
        where = ""
        if own:
            where = f" at line {own[-1].lineno} of its cell"
            if own[-1].line:
                where += f" (`{own[-1].line}`)"
        try:
            says = str(error)
        except Exception:
            says = "its message cannot be read"
        return f"`{call}` raised {type_name(error)}{where}: {says}"
