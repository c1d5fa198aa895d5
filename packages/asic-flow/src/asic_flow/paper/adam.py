"""Adam: torch's steps, without the class around them, which loads torch's compiler and takes seconds to do so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class Adam:
    """The moments of parameters and the steps that they take. Source: Kingma and Ba, ICLR 2015.

    Attributes:
        parameters: of a model; those without a gradient stay where they are.
        means: running means of their gradients.
        squares: of the gradients' squares.
        counts: () float32, how many steps each has taken.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.means, self.squares = ([torch.zeros_like(value) for value in self.parameters] for _ in range(2))
        self.counts = [value.new_zeros((), dtype=torch.float32) for value in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Moves all parameters that have a gradient."""
        rows = zip(self.parameters, self.means, self.squares, self.counts, strict=True)
        moving = [row for row in rows if row[0].grad is not None]
        if not moving:
            return
        parameters, means, squares, counts = (list(column) for column in zip(*moving, strict=True))
        adam(
            parameters,
            [value.grad for value in parameters if value.grad is not None],
            means,
            squares,
            [],
            counts,
            fused=True,
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=learning_rate,
            weight_decay=0.0,
            eps=_EPSILON,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """All of it by name."""
        return {f"{index}.{name}": value for name, values in self._named() for index, value in enumerate(values)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from another one's state.

        Raises:
            ValueError: It is not one of such parameters.
        """
        own = self.state()
        if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in state.items()}:
            raise ValueError("the optimiser's moments are those of other parameters")
        for name, value in own.items():
            value.copy_(state[name])

    def _named(self) -> tuple[tuple[str, list[Tensor]], ...]:
        return ("mean", self.means), ("square", self.squares), ("count", self.counts)
