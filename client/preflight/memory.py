"""Does the model fit into this machine, and onto its GPU?

The estimate of a training step: per transformer layer ``tokens x batch x width x (34 + 5 x heads x tokens / width)``
bytes at two bytes a number (Korthikanti et al. 2022, equation 2), twice that in float32, and 1.4 times that for
adapters and DropKey. Measured on the CPU with more-base and two texts of 123 words: 0.70 GiB a triplet, 1.35 times.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from client.preflight.finding import Finding, fail, ok, warn
from client.site_file import SiteFile
from more_model.errors import EnvironmentFault
from more_model.model.config import ModelConfig, load_config
from more_model.training.settings import TrainingSettings

_MEMINFO = Path("/proc/meminfo")
#: Limit and use of this process's control group, version 2.
_CGROUP = Path("/sys/fs/cgroup")
#: Python with torch, timm and transformers loaded.
_PROGRAM_BYTES = 2**30
#: Longer reports are rare, and a batch is padded to its own longest.
_TEXT_TOKENS = 160
_ADAPTED = 1.4


def weights_bytes(base: Path) -> int:
    """Bytes of all weights in a base folder."""
    return sum(path.stat().st_size for path in base.rglob("*.safetensors"))


def step_bytes(config: ModelConfig, batch_size: int) -> int:
    """Activations of one training step in float32: X-ray, ECG, and the words of both."""
    text = min(config.text.max_tokens, _TEXT_TOKENS)
    xray = (config.preprocessing.image_size // config.xray.patch_size) ** 2 + 1
    towers = (
        (config.xray.depth, xray, config.xray.width, config.xray.heads),
        (config.ecg.depth, config.ecg_tokens + 1, config.ecg.width, config.ecg.heads),
        *[(config.text.depth, text, config.text.width, config.text.heads)] * 2,
    )
    plain = sum(2 * depth * tokens * (34 * width + 5 * heads * tokens) for depth, tokens, width, heads in towers)
    return int(_ADAPTED * batch_size * plain)


def available_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """What this process can still get: of the machine, or of its control group where that is less. None where the
    system does not say."""
    found = []
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text(encoding="ascii").strip()) != "max":
        found.append(int(most) - int(used.read_text(encoding="ascii")))
    return min(found, default=None)


def check_memory(site: SiteFile) -> Finding:
    """Main memory against weights (twice: while they are loaded) and a step of the default batch.

    Raises:
        ConfigError: the base has no valid configuration.
    """
    free = available_bytes()
    if free is None:
        return warn("memory", "This system does not say how much memory is free.", remedy="look yourself")
    weights, step = weights_bytes(site.base), step_bytes(load_config(site.base / "model.toml"), _batch_size())
    least, wanted = 2 * weights + _PROGRAM_BYTES, weights + step + _PROGRAM_BYTES
    said = (
        f"{_gib(free)} available; loading takes {_gib(least)}, training {_batch_size()} triplets up to {_gib(wanted)}"
    )
    remedy = "end other programs, or use a machine with more memory; swap is too slow"
    if free < least:
        return fail("memory", EnvironmentFault(said, remedy=remedy))
    if free < wanted and site.device == "cpu":
        return warn("memory", said, remedy=f"{remedy}; or agree on a smaller batch with the coordinator")
    return ok("memory", said)


def check_gpu(site: SiteFile) -> Iterator[Finding]:
    """The GPU that the site file asks for; none is fine where it asks for none."""
    import torch

    driver = _driver()
    if not torch.cuda.is_available():
        yield _no_gpu(site, driver, built_for=torch.version.cuda)
        return
    device = torch.device(site.device if site.device.startswith("cuda") else "cuda")
    if (device.index or 0) >= torch.cuda.device_count():
        cause = f"There is no {site.device}: torch sees {torch.cuda.device_count()} GPU."
        yield fail("gpu", EnvironmentFault(cause, remedy="correct device in the site file"))
        return
    free, total = torch.cuda.mem_get_info(device)
    wanted = weights_bytes(site.base) + step_bytes(load_config(site.base / "model.toml"), _batch_size())
    said = f"{torch.cuda.get_device_name(device)}, driver {driver or 'unknown'}: {_gib(free)} of {_gib(total)} free"
    if free < wanted:
        remedy = "end other programs on the GPU, or agree on a smaller batch with the coordinator"
        yield warn("gpu", f"{said}; training {_batch_size()} triplets may take {_gib(wanted)}", remedy=remedy)
    else:
        yield ok("gpu", said)


def _no_gpu(site: SiteFile, driver: str, *, built_for: str | None) -> Finding:
    if site.device.startswith("cuda"):
        return fail(
            "gpu",
            EnvironmentFault(
                f"The site file asks for {site.device}, and torch sees no GPU (driver: {driver or 'none'}).",
                remedy="install the driver, let this user reach /dev/nvidia*, and install a CUDA build of torch; in a "
                "container, pass the GPU through",
                avoid='set device = "cpu" without telling the coordinator: rounds would wait for this site',
            ),
        )
    if driver:
        return warn(
            "gpu",
            f"An NVIDIA driver is loaded ({driver}), but torch (CUDA {built_for or 'not built in'}) sees no GPU.",
            remedy='make it visible to this user, or set device = "cpu"; after a daemon-reload, restart a container',
        )
    return ok("gpu", f"none; the site trains on {site.threads} threads of the CPU")


def _driver() -> str:
    """Version of the NVIDIA kernel driver; empty where none is loaded."""
    path = Path("/proc/driver/nvidia/version")
    words = path.read_text(encoding="utf-8").splitlines()[0].split() if path.is_file() else []
    return next((word for word in words if word[:1].isdigit() and "." in word), "")


def _batch_size() -> int:
    return TrainingSettings().batch_size


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
