"""How a script on the null GPU answers the test that runs it. Imported by the scripts."""

from __future__ import annotations

import json
import os
from typing import Any, NoReturn


def answer(found: Any) -> NoReturn:
    """Prints what was found as the last line and leaves at once: autograd's threads may still let
    go of the last step, and one that asks for Python's lock while Python takes itself apart ends
    the process with "terminate called without an active exception"."""
    print(json.dumps(found), flush=True)
    os._exit(0)
