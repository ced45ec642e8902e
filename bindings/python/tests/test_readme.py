"""The Python snippets of the READMEs run as they stand, but for the server's address."""

import re

from proxied import ROOT, Case


class Readme(Case):
    def test_the_snippets_run(self):
        for readme in ("README.md", "bindings/python/README.md"):
            snippets = re.findall(r"^```python\n(.+?)^```", (ROOT / readme).read_text(), re.MULTILINE | re.DOTALL)
            self.assertTrue(snippets, readme)
            for number, snippet in enumerate(snippets, 1):
                with self.subTest(f"{readme}, snippet {number}"):
                    self.assertIn("127.0.0.1:8081", snippet)
                    process = self.script(snippet.replace("127.0.0.1:8081", self.server))
                    _, errors = process.communicate()
                    self.assertEqual((errors, process.returncode), ("", 0))
