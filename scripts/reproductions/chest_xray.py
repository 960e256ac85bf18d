"""Methods beside each other on X-rays of children's chests, no patient at two clients.

conf/experiment/chest_xray.yaml is the field, and says how it is cut.  Methods that send a small
part of the model, or its signs, get 30 rounds in the place of 20.  FedAvg's half-way round was
better than its last one: methods may end as high as it does and not reach the target.
"""

from __future__ import annotations

from scripts.reproductions.voc import plan_of

PLAN = plan_of("chest_xray", crop=8)
