"""Encoding in batches where the memory is really too small."""

from __future__ import annotations

import subprocess
import sys

import pytest

LITTLE_MEMORY = """
import resource
import numpy as np
from radir_pacs.encode import Encoder
from radir_pacs.types import ImageKind
from tests.model_material import seeded_bundle
from tests.unit.test_encoder_batches import inputs

encoder = Encoder(seeded_bundle(ImageKind.CXR), device="cpu", threads=1)
some = inputs(encoder, 1) * 2048
encoder.encode_batch(some[:1])
before = encoder.batch_limit
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (600 << 20),) * 2)
found = encoder.encode_batch(some)
print(before, encoder.batch_limit, sorted({type(one).__name__ for one in found}), len(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_too_little_memory_halves_the_batch_and_loses_nothing() -> None:
    """The memory is really too small: 2,048 images take gigabytes, and 600 MiB are left."""
    done = subprocess.run([sys.executable, "-c", LITTLE_MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split(" ", 2)[2].strip() == "['Encoding'] 2048"
    limit = int(done.stdout.split()[1])
    assert 1 <= limit <= 64
