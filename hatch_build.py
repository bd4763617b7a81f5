"""The build of the package: compiles the kernels, and goes on without them where there is no C compiler."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the compiled kernels into the wheel, which then is one for this platform and every Python."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile in place; an editable installation uses the files where they are."""
        compilation = _compilation(Path(self.root))
        try:
            libraries = compilation.compile_kernels()
        except compilation.CompilationFailed as failure:
            self.app.display_warning(f"GraftLM is built without compiled kernels: {failure}")
            return
        build_data["artifacts"] += [f"/{path.relative_to(self.root)}" for path in libraries]
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def _compilation(root: Path) -> ModuleType:
    """Load the one file by its path: the package itself needs torch, which is not there during a build."""
    path = root / "src" / "graftlm" / "kernels" / "compilation.py"
    specification = importlib.util.spec_from_file_location("compilation", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
