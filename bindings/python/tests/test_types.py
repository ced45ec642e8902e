"""That classes and stubs say what is there."""

import ast
import inspect
import pickle
import re
from pathlib import Path

import rocketmq_thin
from rocketmq_thin import _native, errors

ROOT = Path(__file__).resolve().parents[3]


def test_each_kind_has_a_class():
    source = (ROOT / "proto/src/code.rs").read_text()
    kinds = set(re.findall(r'Self::(\w+) => "\1"', source))
    assert kinds == {cls.kind for cls in errors.Error.__subclasses__()}


def test_an_error_survives_pickling():
    error = errors.Timeout("send failed: no answer (Timeout)")
    error.operation, error.maybe_delivered = "send", True
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    assert isinstance(error, TimeoutError)


def test_the_stubs_name_what_is_there():
    package = Path(rocketmq_thin.__file__).parent
    assert (package / "py.typed").exists()
    module = ast.parse((package / "_native.pyi").read_text())
    for stub in module.body:
        if isinstance(stub, ast.FunctionDef):
            assert callable(getattr(_native, stub.name))
        if isinstance(stub, ast.ClassDef):
            names = {each.name for each in stub.body if isinstance(each, ast.FunctionDef)} - {"__init__"}
            assert names == {name for name in vars(getattr(_native, stub.name)) if not name.startswith("_")}
    stubbed = {stub.name for stub in module.body if isinstance(stub, (ast.FunctionDef, ast.ClassDef))}
    assert stubbed == {name for name, _ in inspect.getmembers(_native, callable) if not name.startswith("_")}
