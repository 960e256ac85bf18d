"""Names that both Flower sides use; they travel with every message, so they are short."""

from __future__ import annotations

import re

RUN_CONFIG = "fedcomp"
"""Key of Flower's run config under which the job travels as JSON."""

OVERRIDES = "overrides"
"""Key of Flower's run config with words of the command line, where no job was sent."""

STYPE = "fedcomp.bitstream"
"""Serialisation type of the one array that holds a packet."""

BLOB = "b"
"""Name of that array in its record."""

FIELDS = "fc"
"""The ConfigRecord with what concerns one client: the fields below."""

SITE = "site"
SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a site may be called: it is part of file names and of messages to people."""

PARTITION = "part"
NONCE = "n"
"""What the server makes up for a handshake, and its answer repeats."""

PROBLEM = "problem"
SESSION = "session"
ROUND_FIELD = "r"
EXCHANGE = "x"
USED = "a"
PREVIOUS = "p"
PLATEAUS = "d"
VERSION = "v"
DIGEST = "h"
NACK = "nack"
DIVERGED = "diverged"
STALE = "stale"
ENCODE_SECONDS = "enc"
DECODE_SECONDS = "dec"
TRAIN_SECONDS = "train"
SECONDS = (ENCODE_SECONDS, DECODE_SECONDS, TRAIN_SECONDS)

ARRAYS = "arrays"
CONFIG = "config"
METRICS = "metrics"
EXAMPLES = "num-examples"
TRAIN_LOSS = "train_loss"
"""The metric of replies that adaptive schedules follow."""

ZEROS = "zeros"
"""The metric of replies that says which share of the trained model is zero."""

SCORES = "scores"
"""Side information of SNIP: a number for each prunable weight, in model order."""

CLUSTERS = "clusters"
"""Side information of FedCompress: how many clusters a layer has; and the metric that says it."""

VALIDATION = "validation"
"""The metric of replies that is the task's own, measured on the client's validation samples."""

DEFLATED = "deflated_bytes"
"""The metric of replies that is the length of the trained model as float32 after Deflate."""

PROXIMAL_MU = "proximal-mu"
CLIPPING_NORM = "clipping_norm"
"""Flower's own names, as its strategies use them."""
