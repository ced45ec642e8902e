"""Packs the Python package: wheels from native libraries that cargo has built, and the source distribution.

    python3 package.py wheel LIBRARY OUT [PLATFORM [LICENSES]]
    python3 package.py sdist OUT

PLATFORM is a platform tag of wheels, or several tags separated by dots. The default is the tag of this machine. LICENSES
is a file with the licences of the crates in the library. Nothing is compiled. The same inputs give the same file, byte
for byte. Prints the path of the file.

It is also the build backend (PEP 517) of the source tree and of the source distribution. As such, it runs cargo.
"""

import base64
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# The stable ABI that the `abi3-py39` feature of pyo3 selects.
PYTHON, ABI = "cp39", "abi3"
CRATE = "rocketmq-thin-python"
# The crates that the native library is built from.
CRATES = ("proto", "core", "bindings/bridge", "bindings/python")
# Folders of the crates that the source distribution does not contain.
EXCLUDED = ("tests", "benches", "target", "__pycache__")


def wheel(library, out, platform=None, licenses=None):
    platform = platform or re.sub(r"[-.]", "_", sysconfig.get_platform())
    tags = "".join(f"Tag: {PYTHON}-{ABI}-{tag}\n" for tag in platform.split("."))
    info = f"rocketmq_thin-{version()}.dist-info"

    files = {f"rocketmq_thin/{path.name}": path.read_bytes() for path in modules()}
    files[f"rocketmq_thin/_native.{ABI}.so"] = Path(library).read_bytes()
    licenses = [ROOT / "LICENSE", *([Path(licenses)] if licenses else [])]
    files.update((f"{info}/licenses/{path.name}", path.read_bytes()) for path in licenses)
    files[f"{info}/METADATA"] = metadata(licenses).encode()
    description = f"Wheel-Version: 1.0\nGenerator: rocketmq-thin\nRoot-Is-Purelib: false\n{tags}"
    files[f"{info}/WHEEL"] = description.encode()
    files[f"{info}/RECORD"] = record(files, f"{info}/RECORD").encode()

    path = make_folder(out) / f"rocketmq_thin-{version()}-{PYTHON}-{ABI}-{platform}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return path


def sdist(out):
    """Packs the sources of the package and of all crates that it is built from, as a separate cargo workspace."""
    top = f"rocketmq_thin-{version()}"
    files = {"PKG-INFO": metadata([ROOT / "LICENSE"]).encode(), "LICENSE": (ROOT / "LICENSE").read_bytes()}
    for crate in CRATES:
        for path in sorted((ROOT / crate).rglob("*")):
            inside = path.relative_to(ROOT / crate)
            if path.is_file() and not any(part in EXCLUDED for part in inside.parts):
                files[f"{crate}/{inside.as_posix()}"] = path.read_bytes()
    # The linker flags of some platforms.
    files[".cargo/config.toml"] = (ROOT / ".cargo/config.toml").read_bytes()
    project = (HERE / "pyproject.toml").read_text()
    files["pyproject.toml"] = project.replace('backend-path = ["."]', 'backend-path = ["bindings/python"]').encode()
    manifest = reduce_manifest((ROOT / "Cargo.toml").read_text()).encode()
    files["Cargo.toml"], files["Cargo.lock"] = manifest, reduce_lock_file(files, manifest)

    path = make_folder(out) / f"{top}.tar.gz"
    with open(path, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed:
        with tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, content in sorted(files.items()):
                entry = tarfile.TarInfo(f"{top}/{name}")
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
    return path


def reduce_manifest(manifest):
    """Returns the workspace's manifest without the crates that the source distribution does not contain."""
    members = ", ".join(f'"{crate}"' for crate in CRATES)
    manifest = re.sub(r"^members = .*$", f"members = [{members}]", manifest, flags=re.MULTILINE)
    lines = manifest.splitlines(keepends=True)
    paths = ((line, re.search(r'\bpath = "(.+?)"', line)) for line in lines)
    manifest = "".join(line for line, path in paths if path is None or path.group(1) in CRATES)
    # The profile of a single package is a section, which ends before the next section.
    section = rf"(?:^#.*\n)*^\[profile\.\w+\.package\.(?!{CRATE}\])[^\]]+\]\n(?:[^\[#\n].*\n)*\n?"
    return re.sub(section, "", manifest, flags=re.MULTILINE)


def reduce_lock_file(files, manifest):
    """Returns the checkout's lock file, reduced by cargo to the packages that the source distribution needs. Versions do
    not change."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            path = Path(scratch, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        Path(scratch, "Cargo.toml").write_bytes(manifest)
        Path(scratch, "Cargo.lock").write_bytes((ROOT / "Cargo.lock").read_bytes())
        command = ["cargo", "metadata", "--format-version=1"]
        # First without network access, which succeeds if cargo has all packages.
        if subprocess.run([*command, "--offline"], cwd=scratch, capture_output=True).returncode != 0:
            subprocess.run(command, cwd=scratch, stdout=subprocess.DEVNULL, check=True)
        return Path(scratch, "Cargo.lock").read_bytes()


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """A hook of PEP 517, which `pip install` calls."""
    if sys.platform == "win32":
        sys.exit("rocketmq-thin does not support Windows yet")
    command = ["cargo", "build", "--release", "--package", CRATE, "--message-format=json-render-diagnostics"]
    try:
        built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        sys.exit("rocketmq-thin must be compiled on this platform, which needs a Rust toolchain: see https://rustup.rs")
    if built.returncode != 0:
        sys.exit("cargo failed to build the native library")
    messages = (json.loads(line) for line in built.stdout.splitlines())
    library = next(path for message in messages for path in libraries(message))
    return wheel(library, wheel_directory).name


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    """A hook of PEP 517. Without it, pip would build the wheel to read its metadata."""
    info = make_folder(Path(metadata_directory, f"rocketmq_thin-{version()}.dist-info"))
    Path(info, "METADATA").write_bytes(metadata([ROOT / "LICENSE"]).encode())
    return info.name


def build_sdist(sdist_directory, config_settings=None):
    """A hook of PEP 517."""
    return sdist(sdist_directory).name


def libraries(message):
    """Returns the paths of the native library in a message of cargo."""
    if message["reason"] != "compiler-artifact" or message["target"]["name"] != CRATE.replace("-", "_"):
        return []
    return [path for path in message["filenames"] if path.endswith((".so", ".dylib"))]


def modules():
    return [path for path in (HERE / "rocketmq_thin").iterdir() if path.suffix in (".py", ".pyi", ".typed")]


def version():
    return re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE).group(1)


def make_folder(path):
    """Creates the folder if it does not exist. Returns its path."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def metadata(licenses):
    fields = (HERE / "METADATA").read_text() + "".join(f"License-File: {path.name}\n" for path in licenses)
    readme = (HERE / "README.md").read_text()
    return f"Metadata-Version: 2.4\nName: rocketmq-thin\nVersion: {version()}\n{fields}\n{readme}"


def record(files, itself):
    lines = []
    for name, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{itself},,", ""])


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:] or [""]
    if kind not in ("wheel", "sdist"):
        sys.exit(__doc__)
    print({"wheel": wheel, "sdist": sdist}[kind](*arguments))
