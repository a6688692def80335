"""A generator of SBOMs by BuildKit's protocol: what syft finds in an image, as a statement about it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

source = Path(os.environ["BUILDKIT_SCAN_SOURCE"])
found = subprocess.run(
    ["syft", "scan", "--quiet", f"dir:{source}", "--output", "spdx-json"], check=True, stdout=subprocess.PIPE
)
statement = {
    "_type": "https://in-toto.io/Statement/v0.1",
    "predicateType": "https://spdx.dev/Document",
    "predicate": json.loads(found.stdout),
}
destination = Path(os.environ["BUILDKIT_SCAN_DESTINATION"])
(destination / f"{source.name}.spdx.json").write_text(json.dumps(statement))
