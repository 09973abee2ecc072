"""Tap points: the pre-activations whose signs are a network's activation boundaries.

A tap is named after the activation that reads it, because that activation is what makes a boundary of its zero:

    `layer3.1.relu`       what the activation module at this path reads
    `layer3.1.relu#1`     what it reads at its second call of a forward pass (calls count from 0)
    `features.relu()`     what a functional `relu` reads, called in the forward method of module `features`
    `features.relu()#1`   the second such call there

A name without `#` stands for the only call. Any other module's path means what that module returns. Where an
activation reads exactly that, as in `block2.layer.0.bn1` of the paper's wide ResNets, the two names are one tap, and
it goes by the activation's (`block2.layer.0.relu1`): `resolve_taps` accepts both and answers with that one. What a
module returns may also be tapped when no activation reads it, but never what is known to be rectified: that has no
boundary at zero.

Taps are listed shallow to deep: by scale of the image, and at one scale in order of the forward pass.
"""

from abcore.taps.capture import TapCapture
from abcore.taps.finding import find_taps, tap_candidates
from abcore.taps.pairing import pair_taps
from abcore.taps.resolving import resolve_taps

__all__ = ["TapCapture", "find_taps", "pair_taps", "resolve_taps", "tap_candidates"]
