"""That classes and stubs say what is there."""

import ast
import inspect
import pickle
import re
import unittest
from pathlib import Path

import rocketmq_thin
from proxied import ROOT
from rocketmq_thin import _native, errors


class Types(unittest.TestCase):
    def test_each_kind_has_a_class(self):
        kinds = set(re.findall(r'Self::(\w+) => "\1"', (ROOT / "proto/src/code.rs").read_text()))
        self.assertIn("TopicNotFound", kinds)
        self.assertEqual(kinds, {cls.kind for cls in errors.Error.__subclasses__()})

    def test_an_error_survives_pickling(self):
        error = errors.Timeout("send failed: no answer (Timeout)")
        error.operation, error.maybe_delivered = "send", True
        copy = pickle.loads(pickle.dumps(error))
        self.assertEqual((type(copy), str(copy), vars(copy)), (type(error), str(error), vars(error)))
        self.assertIsInstance(error, TimeoutError)

    def test_the_stubs_name_what_is_there(self):
        package = Path(rocketmq_thin.__file__).parent
        self.assertTrue((package / "py.typed").exists())
        stubs = {}
        for stub in ast.parse((package / "_native.pyi").read_text()).body:
            if isinstance(stub, (ast.FunctionDef, ast.ClassDef)):
                stubs[stub.name] = {each.name for each in getattr(stub, "body", []) if isinstance(each, ast.FunctionDef)}
        self.assertEqual(set(stubs), {name for name, _ in inspect.getmembers(_native, callable) if name[0] != "_"})
        for name, members in stubs.items():
            native = getattr(_native, name)
            if isinstance(native, type):
                self.assertEqual(members - {"__init__"}, {member for member in vars(native) if member[0] != "_"}, name)
