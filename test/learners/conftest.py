"""Learning in the tests keeps to one thread: small networks are slower on more, not quicker."""

import torch

torch.set_num_threads(1)
