"""Classes, stubs and help texts are complete."""

import ast
import inspect
import operator
import pickle
import re
import subprocess
import sys
import typing
import unittest
from pathlib import Path

import rocketmq_thin
from proxied import ROOT, Case
from rocketmq_thin import _native, aio, blocking, errors


class Types(unittest.TestCase):
    def test_each_error_kind_has_a_class(self):
        kinds = set(re.findall(r'Self::(\w+) => "\1"', (ROOT / "proto/src/code.rs").read_text()))
        self.assertIn("TopicNotFound", kinds)
        self.assertEqual(kinds, {cls.kind for cls in errors.Error.__subclasses__()})

    def test_an_error_survives_pickling(self):
        error = errors.Timeout("send failed: no answer (Timeout)")
        error.operation, error.maybe_delivered = "send", True
        copy = pickle.loads(pickle.dumps(error))
        self.assertEqual((type(copy), str(copy), vars(copy)), (type(error), str(error), vars(error)))
        self.assertIsInstance(error, TimeoutError)

    def test_the_stubs_name_all_members(self):
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

    def test_annotations_can_be_evaluated(self):
        for api in (blocking, aio):
            for function in (api.Producer.__init__, api.SimpleConsumer.__init__, api.PushConsumer.__init__):
                self.assertIn("observers", typing.get_type_hints(function))

    def test_help_describes_every_option_with_its_default(self):
        for api in (blocking, aio):
            for call in (
                api.Client,
                api.Client.producer,
                api.Client.simple_consumer,
                api.Client.push_consumer,
                api.SimpleConsumer.receive,
                api.SimpleConsumer.messages,
            ):
                with self.subTest(call):
                    text = inspect.getdoc(call.__init__ if call is api.Client else call)
                    for name, parameter in inspect.signature(call).parameters.items():
                        if name != "self":
                            described = re.search(rf"^    {name}: (.+?)(?=^    \w+: |\Z)", text, re.MULTILINE | re.DOTALL)
                            self.assertIsNotNone(described, name)
                            has_default = parameter.default is not inspect.Parameter.empty
                            self.assertEqual("Default: " in described[1], has_default, name)

    def test_both_apis_describe_options_identically(self):
        for name in ("Client.__init__", "Client.producer", "Client.simple_consumer", "SimpleConsumer.receive"):
            arguments = [operator.attrgetter(name)(api).__doc__.partition("Args:")[2] for api in (blocking, aio)]
            self.assertEqual(*arguments, name)

    def test_help_describes_every_attribute(self):
        for name, member in inspect.getmembers(rocketmq_thin.Delivery):
            if name[0] != "_":
                self.assertTrue(member.__doc__, name)
        for cls in (rocketmq_thin.Message, rocketmq_thin.Credentials, rocketmq_thin.Tls, rocketmq_thin.Error):
            for name in cls.__annotations__:
                self.assertIn(f"    {name}: ", inspect.getdoc(cls))
        for cls in errors.Error.__subclasses__():
            self.assertTrue(cls.__doc__, cls)


class Usage(Case):
    def test_the_type_checked_program_runs(self):
        command = [sys.executable, str(Path(__file__).with_name("usage.py")), self.server, self.name]
        ran = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "done\n", ""))
