"""The mitigations of the field: samplers and denoisers that are to put less between the modes.

Each file has the formula, its source, and what of the original is not known. Samplers: :class:`Jumps` (Restart
sampling, RePaint) and :class:`StochasticTail`. Denoisers, each a function of x_t alone, so that what it does is
measured exactly (:mod:`intermode.exact`): :class:`Sharpened`, :class:`DynamicallyGuided`, :class:`Robust` (RODS),
:class:`Quenched` and :class:`Clipped`. Which of them works, and what it costs: the study ``mitigations``.

Elsewhere: restarts of finished samples (:mod:`intermode.restart`) and of those that a detector flags
(:mod:`intermode.repairs`), drawing again (``intermode.sample(keep=...)``), training on stable targets
(:mod:`intermode.training_targets`).

>>> sharper = Sharpened(intermode.load("gaussian-1d"), 0.5, until=20)
>>> intermode.off_support(sharper, intermode.line())
"""

from intermode.mitigate.clipped import Clipped
from intermode.mitigate.corrected import Corrected
from intermode.mitigate.guided import Classifier, DynamicallyGuided, modes_of
from intermode.mitigate.jumps import Jump, Jumps
from intermode.mitigate.quenched import Quenched
from intermode.mitigate.robust import Robust
from intermode.mitigate.sharpened import Sharpened
from intermode.mitigate.tail import StochasticTail

__all__ = [
    "Classifier",
    "Clipped",
    "Corrected",
    "DynamicallyGuided",
    "Jump",
    "Jumps",
    "Quenched",
    "Robust",
    "Sharpened",
    "StochasticTail",
    "modes_of",
]
