"""A trained net to few levels a weight: ECQ^x beside ECQ, the nearest level, and DeepCABAC.

CosSGD's net on CIFAR-10.  ECQ and ECQ^x train through their levels, 3,000 images an epoch where the
paper has 50,000, and 2 epochs where it has 10; DeepCABAC looks for the coarsest steps that lose no
more of the validation metric than it is allowed to.
"""

from __future__ import annotations

from scripts.reproductions.quantising import Quantising

_TRAINED = ("epochs=2", "samples=3000", "gamma=0.3")
_RELEVANT = (*_TRAINED, "quantiser=ecqx", "relevance.momentum=0.9", "relevance.every=4")

PLAN = Quantising(
    field=("engine=inline", "experiment=quantise", "validation=0.02"),
    runs={
        "nearest_4_bits": ("quantiser=nearest", "bits=4"),
        "nearest_3_bits": ("quantiser=nearest", "bits=3"),
        "ecq_4_bits": ("quantiser=ecq", "bits=4", *_TRAINED),
        "ecq_3_bits": ("quantiser=ecq", "bits=3", *_TRAINED),
        "ecqx_4_bits": ("bits=4", *_RELEVANT),
        "ecqx_3_bits": ("bits=3", *_RELEVANT),
        "deepcabac": ("quantiser=deepcabac", "tolerance=0.005"),
        "deepcabac_lossy": ("quantiser=deepcabac", "tolerance=0.03"),
    },
    full=("model=resnet20", "rounds=20", "train.steps=null", "train.epochs=10", "samples=null"),
    quick=("dataset=digits", "model=small_cnn", "rounds=1", "validation=0.2"),
)
