"""Packs the Python package and its native library, which cargo has built, into an installable wheel.

    python3 bindings/python/package.py target/release/librocketmq_thin_python.so target/x/package

Nothing is compiled here. The same inputs give the same wheel, byte for byte. Prints the wheel's path.
"""

import base64
import hashlib
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# The stable ABI that the `abi3-py39` feature of pyo3 selects.
PYTHON, ABI = "cp39", "abi3"


def pack(library, out):
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    tag = f"{PYTHON}-{ABI}-{platform}"
    info = f"rocketmq_thin-{version}.dist-info"

    suffix = ".pyd" if platform.startswith("win") else f".{ABI}.so"
    sources = (path for path in (HERE / "rocketmq_thin").iterdir() if path.suffix in (".py", ".pyi", ".typed"))
    files = {f"rocketmq_thin/{path.name}": path.read_bytes() for path in sources}
    files["rocketmq_thin/py.typed"] = b""
    files[f"rocketmq_thin/_native{suffix}"] = Path(library).read_bytes()
    files[f"{info}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    files[f"{info}/METADATA"] = metadata(version).encode()
    wheel = f"Wheel-Version: 1.0\nGenerator: rocketmq-thin\nRoot-Is-Purelib: false\nTag: {tag}\n"
    files[f"{info}/WHEEL"] = wheel.encode()
    files[f"{info}/RECORD"] = record(files, f"{info}/RECORD").encode()

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    wheel = out / f"rocketmq_thin-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return wheel.name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """The hook of PEP 517, which `pip install` calls."""
    subprocess.run(["cargo", "build", "--release", "--package", "rocketmq-thin-python"], cwd=ROOT, check=True)
    return pack(ROOT / "target/release/librocketmq_thin_python.so", wheel_directory)


def metadata(version):
    fields = (HERE / "METADATA").read_text()
    readme = (HERE / "README.md").read_text()
    return f"Metadata-Version: 2.4\nName: rocketmq-thin\nVersion: {version}\n{fields}\n{readme}"


def record(files, itself):
    lines = []
    for name, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{itself},,", ""])


if __name__ == "__main__":
    print(Path(sys.argv[2], pack(*sys.argv[1:])))
