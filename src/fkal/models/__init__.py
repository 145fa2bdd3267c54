"""Models by name, each an `nn.Module` whose layers can be tapped by module name."""

from fkal.models.closed_form import ClosedForm, LogitGradients
from fkal.models.dropout import MonteCarloDropout, monte_carlo_dropout
from fkal.models.ensemble import Ensemble, members_of
from fkal.models.head import HeadInput, head_width
from fkal.models.modes import evaluating, learning
from fkal.models.registry import MODELS, ModelConfig, build, head_name, known_model
from fkal.models.taps import Taps, tap_widths

__all__ = [
    "MODELS",
    "ClosedForm",
    "Ensemble",
    "HeadInput",
    "LogitGradients",
    "ModelConfig",
    "MonteCarloDropout",
    "Taps",
    "build",
    "evaluating",
    "head_name",
    "head_width",
    "known_model",
    "learning",
    "members_of",
    "monte_carlo_dropout",
    "tap_widths",
]
