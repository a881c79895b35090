"""Makes `gymnasium.make("gamengen:World-v0")` work without Gymnasium being imported by `import gamengen`.

Gymnasium reads the prefix of such an id as a module: it imports that module and then looks the rest up in its registry,
which the module is expected to have filled. It loads no entry points of installed packages. So the id has to be in the
registry once both packages are imported, in either order, and `import gamengen` must not pay for Gymnasium:

    Gymnasium first   it is there: register at once.
    gamengen first    a finder that waits for the import of Gymnasium, registers when it has ended, and is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

ENV_ID = "World-v0"
_GYMNASIUM = "gymnasium"


def register(gymnasium: ModuleType) -> None:
    """Put the environments of `env` and `vector_env` into the registry; they are imported when one is made."""
    gymnasium.register(
        id=ENV_ID, entry_point="gamengen.env:WorldEnv", vector_entry_point="gamengen.vector_env:WorldVectorEnv"
    )


class AfterGymnasium:
    """First in `sys.meta_path` until Gymnasium is imported. Finds nothing itself: it asks the finders behind it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of Gymnasium with registration at the end of its execution; None for any other module."""
        if name != _GYMNASIUM:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:  # only after success: a failed import may be tried again
                sys.meta_path.remove(self)
            register(module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_with_gymnasium() -> None:
    """Register now when Gymnasium is imported already, else as soon as it is."""
    gymnasium = sys.modules.get(_GYMNASIUM)
    if gymnasium is None:
        sys.meta_path.insert(0, AfterGymnasium())
    else:
        register(gymnasium)
