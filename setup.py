"""Builds the wheel: suites, expectations and the JSON Schema of suites go into the package ``spyre_cb``."""

import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class WithSuites(build_py):
    """Adds them to what is built. An editable installation finds them where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib, "spyre_cb")
        for name in ("suites", "expectations"):
            shutil.rmtree(package / name, ignore_errors=True)
            shutil.copytree(ROOT / name, package / name)
        sys.path.insert(0, str(ROOT))
        from harness.suites.json_schema import schema_text

        (package / "suite.schema.json").write_text(schema_text(), encoding="utf-8")


setup(cmdclass={"build_py": WithSuites})
