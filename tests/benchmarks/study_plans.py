"""Plan files of the research studies, as a consortium lead would write them.

The LIDC plans were chosen on validation patients with training on the rest, the one without
privacy over three seeds (`tests.benchmarks.lidc_reference --train-splits train`); nothing was
chosen for radiographs.
Weights are public counts of training patients, rounded, in thousands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

LIDC_WEIGHTS = {"ge": "0.26", "siemens": "0.09", "philips": "0.04", "toshiba": "0.04"}
CXR_WEIGHTS = {"guangzhou": "0.78", "nih": "0.47", "hannover": "0.04"}
DEADLINE_S = 600

LIDC_TASK = """[task]
name = "ct_nodule_malignancy"
[model]
arch = "tiny_cnn_gn"
num_groups = 8
in_channels = 8
spatial_dims = 2
[preproc]
modality = "CT"
size_px = 48
slices = 8
hu_low = -1000
hu_high = 275
"""
CXR_TASK = """[task]
name = "cxr_abnormal"
[model]
arch = "tiny_cnn_gn"
num_groups = 8
[preproc]
modality = "CXR"
size_px = 64
"""


def lidc_plan(sites: Sequence[str], *, seed: int, rounds: int = 40) -> str:
    """Return the plan without privacy."""
    return f"""{_sites(sites, (), seed)}{LIDC_TASK}
{_adamw(lr="0.002", decay="0.2", steps=20)}
[privacy]
mode = "none"
{_fed(sites, rounds, LIDC_WEIGHTS)}"""


def lidc_private_plan(sites: Sequence[str], *, seed: int) -> str:
    """Return the plan at epsilon 8 a patient; the coordinator solves the noise.

    Meant for an initial model trained on phantoms: few steps, because noise and not
    time is what runs out. `n_ref` is a public size class. With the same `n_ref`
    everywhere a site's summed gradient grows with its patients while its noise does
    not, so weights by public counts give the least noise for the same signal.
    """
    return f"""{_sites(sites, (), seed)}{LIDC_TASK}
[train]
optimizer = "sgd"
lr = "0.2"
schedule = "cosine"
local_steps = 5
batch_patients = 16
images_per_patient = 4
augment = true
[privacy]
mode = "dp"
epsilon = "8"
delta = "1e-5"
clip = "1"
n_ref = 64
{_fed(sites, 4, LIDC_WEIGHTS)}"""


def cxr_plan(sites: Sequence[str], external: Sequence[str], *, seed: int, rounds: int = 20) -> str:
    """Return the radiograph plan without privacy."""
    return f"""{_sites(sites, external, seed)}{CXR_TASK}
{_adamw(lr="0.003", decay="0.05", steps=10)}
[privacy]
mode = "none"
{_fed(sites, rounds, CXR_WEIGHTS)}"""


def _sites(training: Sequence[str], external: Sequence[str], seed: int) -> str:
    return (
        f"training_sites = {json.dumps(list(training))}\n"
        f"external_sites = {json.dumps(list(external))}\n"
        f"seed = {seed}\n"
    )


def _adamw(*, lr: str, decay: str, steps: int) -> str:
    return f"""[train]
optimizer = "adamw"
lr = "{lr}"
weight_decay = "{decay}"
schedule = "cosine"
local_steps = {steps}
batch_patients = 16
images_per_patient = 4
augment = true"""


def _fed(sites: Sequence[str], rounds: int, weights: Mapping[str, str]) -> str:
    text = f"""[fed]
rounds = {rounds}
min_sites = {len(sites)}
deadline_s = {DEADLINE_S}
norm_bound = "1000"
weighting = "{"plan" if weights else "uniform"}"
"""
    if weights:
        text += "[fed.weights]\n"
        text += "".join(f'{site} = "{weights[site]}"\n' for site in sites)
    return text + "[evaluation]\nevery_rounds = 10\nbootstrap = 2000\n"
