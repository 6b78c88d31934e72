"""One thread of arithmetic in each process of the tests, as the suite runs in several.

The threads of OpenMP and BLAS wait for each other busily: where there are more of them than processors, a small network
takes many times as long. Set before numpy or torch is imported; the processes that a test starts inherit it.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
