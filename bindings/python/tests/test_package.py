"""The source distribution contains all files that pip needs to build the package."""

import re
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

from proxied import ROOT

sys.path.insert(0, str(ROOT / "bindings/python"))
import package  # noqa: E402


class SourceDistribution(unittest.TestCase):
    def test_it_is_a_separate_workspace_with_the_same_versions(self):
        with tempfile.TemporaryDirectory() as folder:
            path = package.sdist(folder)
            with tarfile.open(path) as archive:
                archive.extractall(folder)
            root = Path(folder, path.name.removesuffix(".tar.gz"))
            check = ["cargo", "metadata", "--format-version=1", "--locked", "--offline"]
            checked = subprocess.run(check, cwd=root, capture_output=True, text=True)
            self.assertEqual(checked.returncode, 0, checked.stderr)
            entry = re.compile(r'^name = ".+"\nversion = ".+"', re.MULTILINE)
            packages = entry.findall((root / "Cargo.lock").read_text())
            self.assertIn('name = "tokio"', "\n".join(packages))
            self.assertLessEqual(set(packages), set(entry.findall((ROOT / "Cargo.lock").read_text())))

    def test_it_is_reproducible(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            self.assertEqual(package.sdist(one).read_bytes(), package.sdist(other).read_bytes())


if __name__ == "__main__":
    unittest.main()
